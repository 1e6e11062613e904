"""A folder's way over a connection: a line of JSON that lists its files, then their bytes, one after the other.

Nothing is unpickled, names stay inside the folder, and what arrives is kept only if its content is what was asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from trtverify.fixtures.words.messages import _

from ..taking.intake import Bounds, Snapshots, content_digest

_BLOCK = 1 << 20
_LINE = 8 << 20  # of 10,000 names at most
_PARTS = 2  # what was handed in, and what scripts made of it: each within the bounds


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Byte code is left out: it is another Python's."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return [(path.relative_to(folder).as_posix(), path) for path in found]


def hashes_of(folder: Path) -> dict[str, str]:
    """name → sha256 of every file."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _files(folder)}


def listing_of(folder: Path) -> list[tuple[str, int]]:
    """(name, bytes) of every file, in the order in which they are sent."""
    return [(name, path.stat().st_size) for name, path in _files(folder)]


def checked(listing: Any, bounds: Bounds) -> list[tuple[str, int]]:
    """A listing as it came over the wire, if every name stays inside and all sizes are within the bounds."""
    if not isinstance(listing, list) or len(listing) > _PARTS * bounds.files:
        raise ValueError(_("expected a list of at most {count:,} files").format(count=_PARTS * bounds.files))
    for entry in listing:
        name, size = entry
        parts = str(name).split("/")
        if not isinstance(name, str) or {"", ".", ".."} & set(parts) or "\0" in name or type(size) is not int:
            raise ValueError(_("expected a file and its size, found {found!r}").format(found=entry))
        if not 0 <= size <= bounds.file_bytes:
            raise ValueError(
                _("expected at most {count:,} bytes, found {found:,}").format(count=bounds.file_bytes, found=size)
            )
    return [(str(name), int(size)) for name, size in listing]


def send(writer: BinaryIO, folder: Path, listing: Sequence[tuple[str, int]]) -> None:
    """Send the files of a listing."""
    for name, size in listing:
        with (folder / name).open("rb") as file:
            left = size
            while left and (block := file.read(min(left, _BLOCK))):
                writer.write(block)
                left -= len(block)
    writer.flush()


def receive(reader: BinaryIO, listing: Any, digest: str, snapshots: Snapshots) -> Path:
    """Write the files that come, and keep them if their content is what the digest says."""
    hashes: dict[str, str] = {}
    taking = snapshots.root / f".taking-{os.getpid()}-{secrets.token_hex(4)}"
    taking.mkdir()
    try:
        for name, size in checked(listing, snapshots.bounds):
            path = taking / name
            path.parent.mkdir(parents=True, exist_ok=True)
            hashes[name] = _receive_file(reader, path, size)
        if content_digest(hashes) != digest:
            raise ValueError(_("expected the content {digest}, found another").format(digest=digest))
        for path in (taking, *taking.rglob("*")):  # the sandbox's user must be able to read it, whatever the umask
            path.chmod(0o755 if path.is_dir() else 0o444)
        final = snapshots.root / digest
        with contextlib.suppress(OSError):  # it came a second time meanwhile
            taking.rename(final)
        return final
    finally:
        shutil.rmtree(taking, ignore_errors=True)


def _receive_file(reader: BinaryIO, path: Path, size: int) -> str:
    content = hashlib.sha256()
    left = size
    with path.open("xb") as file:
        while left:
            block = reader.read(min(left, _BLOCK))
            if not block:
                raise ConnectionResetError(_("the connection ended {count:,} bytes early").format(count=left))
            content.update(block)
            file.write(block)
            left -= len(block)
    return content.hexdigest()


def write_line(writer: BinaryIO, said: dict[str, Any]) -> None:
    """Say one thing."""
    writer.write(json.dumps(said).encode() + b"\n")
    writer.flush()


def read_line(reader: BinaryIO) -> dict[str, Any]:
    """Hear one thing."""
    line = reader.readline(_LINE)
    said = json.loads(line) if line.endswith(b"\n") else None
    if not isinstance(said, dict):
        raise ConnectionResetError(_("the connection ended before anything was said"))
    return said
