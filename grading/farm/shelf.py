"""Where snapshots are handed out to workers, and where a worker keeps what it fetched: by content, and once."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hmac
import os
import secrets
import shutil
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from trtverify.fixtures.words.messages import _

from ..taking.intake import Snapshots, content_digest
from .wire import checked, hashes_of, listing_of, read_line, receive, send, write_line

_SILENT_SECONDS = 60.0
_SPARE_BYTES = 1 << 30  # of the disk, left to whoever else needs it


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the shelf is. The token shows that a worker was sent by this grader."""

    host: str
    port: int
    token: str


class Shelf(socketserver.ThreadingTCPServer):
    """The grader's side: hands out snapshots and the frozen tests, takes back what scripts made.

    Args:
        host: the address that workers reach this machine by.
        snapshots: handed out by digest, and added to.
        suite: a folder that is handed out beside them, under the digest of its content.
        tls: encrypts and authenticates, if the cluster does.
    """

    daemon_threads = True
    # A worker that is sent nothing more has gone, and its thread with it.
    block_on_close = False

    def __init__(self, host: str, snapshots: Snapshots, suite: Path, tls: ssl.SSLContext | None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.address_family = family
        super().__init__((host, 0), _Asked)
        self.snapshots = snapshots
        self.tls = tls
        self.suite_digest = content_digest(hashes_of(suite))
        self._suite = suite
        self.place = Place(host, int(self.server_address[1]), secrets.token_hex(16))

    def find(self, digest: str) -> Path | None:
        """The folder with this content."""
        if digest == self.suite_digest:
            return self._suite
        return self.snapshots.find(digest) if _is_digest(digest) else None

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its handshake is done in its own thread."""
        connection, address = super().get_request()
        connection.settimeout(_SILENT_SECONDS)
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A worker that went away is the scheduler's to notice; the next one asks again."""


class _Asked(socketserver.BaseRequestHandler):
    server: Shelf
    request: socket.socket

    def handle(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        with self.request.makefile("rb") as reader, self.request.makefile("wb") as writer:
            self._answer(reader, writer)

    def _answer(self, reader: BinaryIO, writer: BinaryIO) -> None:
        said = read_line(reader)
        if not hmac.compare_digest(str(said.get("token")), self.server.place.token):
            raise PermissionError(_("a stranger asked for a snapshot"))
        digest = str(said["digest"])
        if said["want"] == "get":
            folder = self.server.find(digest)
            listing = None if folder is None else listing_of(folder)
            write_line(writer, {"files": listing})
            if folder is not None and listing is not None:
                send(writer, folder, listing)
        elif said["want"] == "put" and _is_digest(digest):
            wanted = self.server.snapshots.find(digest) is None
            write_line(writer, {"wanted": wanted})
            if wanted:
                receive(reader, read_line(reader)["files"], digest, self.server.snapshots)
                write_line(writer, {"kept": digest})


class Cupboard:
    """The worker's side: a folder of what was fetched, each under its digest; the longest unused goes first."""

    def __init__(self, root: Path) -> None:
        self.snapshots = Snapshots(root)
        self._used: collections.Counter[str] = collections.Counter()
        self._fetching = threading.Lock()

    @contextlib.contextmanager
    def keep(self, *digests: str) -> Iterator[None]:
        """What must not be thrown away meanwhile."""
        with self._fetching:
            self._used.update(digests)
        try:
            yield
        finally:
            with self._fetching:
                self._used.subtract(digests)

    def fetch(self, place: Place, digest: str, tls: ssl.SSLContext | None) -> Path | None:
        """The folder with this content, asked of the grader unless it is here; None if the grader has none.

        Raises:
            OSError: the grader cannot be reached, or the disk is full.
            ValueError: what came is not what was asked for.
        """
        with self._fetching, contextlib.ExitStack() as stack:
            found = self.snapshots.find(digest)
            if found is not None:
                os.utime(found)
                return found
            reader, writer = stack.enter_context(_asking(place, tls))
            write_line(writer, {"token": place.token, "want": "get", "digest": digest})
            listing = read_line(reader)["files"]
            if listing is None:
                return None
            self._make_room(sum(size for _name, size in checked(listing, self.snapshots.bounds)))
            return receive(reader, listing, digest, self.snapshots)

    def hand_over(self, place: Place, digest: str, tls: ssl.SSLContext | None) -> None:
        """Give the grader what was made here."""
        folder = self.snapshots.root / digest
        listing = listing_of(folder)
        with _asking(place, tls) as (reader, writer):
            write_line(writer, {"token": place.token, "want": "put", "digest": digest})
            if read_line(reader)["wanted"]:
                write_line(writer, {"files": listing})
                send(writer, folder, listing)
                read_line(reader)  # it is kept

    def _make_room(self, wanted: int) -> None:
        kept = [path for path in self.snapshots.root.iterdir() if not path.name.startswith(".")]
        unused = [path for path in kept if self._used[path.name] <= 0]
        for path in sorted(unused, key=lambda path: path.stat().st_mtime):
            if shutil.disk_usage(self.snapshots.root).free >= wanted + _SPARE_BYTES:
                return
            shutil.rmtree(path, ignore_errors=True)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


@contextlib.contextmanager
def _asking(place: Place, tls: ssl.SSLContext | None) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection((place.host, place.port), _SILENT_SECONDS))
        connection = plain if tls is None else stack.enter_context(tls.wrap_socket(plain))
        reader = stack.enter_context(connection.makefile("rb"))
        writer = stack.enter_context(connection.makefile("wb"))
        yield reader, writer
