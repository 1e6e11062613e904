"""Snapshots between grader and workers: asked for by content, checked on arrival, handed to nobody else."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.suite.grading.farm_cluster import certificate
from trtverify.grading.farm import wire
from trtverify.grading.farm.shelf import Cupboard, Shelf
from trtverify.grading.taking.intake import Snapshots, content_digest, opened_folder


def snapshot(root: Path, files: dict[str, bytes]) -> tuple[Snapshots, str]:
    source = root / "source"
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    snapshots = Snapshots(root / "snapshots")
    with opened_folder(source) as folder:
        return snapshots, snapshots.take(folder).digest


@contextlib.contextmanager
def serving(snapshots: Snapshots, suite: Path, tls: ssl.SSLContext | None = None) -> Iterator[Shelf]:
    with Shelf("127.0.0.1", snapshots, suite, tls) as shelf:
        threading.Thread(target=shelf.serve_forever, daemon=True).start()
        try:
            yield shelf
        finally:
            shelf.shutdown()


FILES = {"a.onnx": b"x" * 3_000_000, "lab1/answer.json": b"{}", "empty": b""}


@pytest.fixture
def taken(tmp_path: Path) -> tuple[Snapshots, str]:
    """A snapshot of three files."""
    return snapshot(tmp_path, FILES)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder of tests, with byte code."""
    (tmp_path / "suite" / "__pycache__").mkdir(parents=True)
    (tmp_path / "suite" / "test_a.py").write_text("pass\n")
    (tmp_path / "suite" / "__pycache__" / "test_a.pyc").write_bytes(b"another Python's")
    return tmp_path / "suite"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_snapshot_and_the_tests_are_fetched_whole_and_once(
    taken: tuple[Snapshots, str], suite: Path, tmp_path: Path
) -> None:
    snapshots, digest = taken
    cupboard = Cupboard(tmp_path / "worker")
    with serving(snapshots, suite) as shelf:
        found = cupboard.fetch(shelf.place, digest, None)
        tests = cupboard.fetch(shelf.place, shelf.suite_digest, None)
        assert cupboard.fetch(shelf.place, "0" * 64, None) is None
        assert shelf.find("../source") is None
    assert found is not None
    assert tests is not None
    assert contents(found) == FILES
    assert contents(tests) == {"test_a.py": b"pass\n"}
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in found.rglob("*"))
    assert cupboard.fetch(shelf.place, digest, None) == found  # nobody is asked: the shelf is gone


def test_what_was_made_is_handed_over(taken: tuple[Snapshots, str], suite: Path, tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    theirs, digest = snapshot(tmp_path / "worker", {"made.onnx": b"y" * 2_000_000})
    cupboard = Cupboard(theirs.root)
    with serving(taken[0], suite) as shelf:
        cupboard.hand_over(shelf.place, digest, None)
        cupboard.hand_over(shelf.place, digest, None)  # a second time: it is there already
    kept = taken[0].find(digest)
    assert kept is not None
    assert contents(kept) == {"made.onnx": b"y" * 2_000_000}


def test_a_stranger_gets_nothing(taken: tuple[Snapshots, str], suite: Path, tmp_path: Path) -> None:
    cupboard = Cupboard(tmp_path / "worker")
    with serving(taken[0], suite) as shelf:
        stranger = dataclasses.replace(shelf.place, token="guess")
        with pytest.raises(ConnectionError):
            cupboard.fetch(stranger, taken[1], None)
        with pytest.raises(ConnectionError):
            cupboard.hand_over(stranger, snapshot_in(cupboard, tmp_path), None)
    assert list(taken[0].root.iterdir()) == [taken[0].root / taken[1]]


def snapshot_in(cupboard: Cupboard, tmp_path: Path) -> str:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"z")
    with opened_folder(tmp_path / "other") as folder:
        return cupboard.snapshots.take(folder).digest


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"[]\n", b"{}\n", b"\xff\n", b'{"token": 1}\n', b"{" * 100_000 + b"\n", b"x" * (5 << 20)]
)
def test_noise_is_not_answered_and_stops_nothing(
    taken: tuple[Snapshots, str], suite: Path, tmp_path: Path, line: bytes
) -> None:
    with serving(taken[0], suite) as shelf:
        connection = socket.create_connection((shelf.place.host, shelf.place.port))
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
        assert Cupboard(tmp_path / "worker").fetch(shelf.place, taken[1], None) is not None


def received(tmp_path: Path, listing: Any, content: bytes, digest: str) -> Path:
    return wire.receive(io.BytesIO(content), listing, digest, Snapshots(tmp_path / "kept"))


@pytest.mark.parametrize(
    "listing",
    [
        [["../out", 1]],
        [["/out", 1]],
        [["a/../../out", 1]],
        [["", 1]],
        [["a//b", 1]],
        [["a", -1]],
        [["a", True]],
        [["a", 1 << 40]],
        [["a", 1.0]],
        [["a\0b", 1]],
        [["a"]],
        ["ab"],
        {"a": 1},
        None,
        [["a", 0]] * 11_000,
    ],
)
def test_a_listing_that_leaves_the_folder_or_the_bounds_is_refused(tmp_path: Path, listing: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|values to unpack"):
        received(tmp_path, listing, b"x" * 10, "0" * 64)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_other_content_than_was_asked_for_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the content"):
        received(tmp_path, [["a", 1]], b"x", "0" * 64)
    with pytest.raises(ConnectionResetError, match="5 bytes early"):
        received(tmp_path, [["a", 6]], b"x", "0" * 64)
    assert list((tmp_path / "kept").iterdir()) == []
    digest = content_digest({"a": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"})  # of "x"
    assert contents(received(tmp_path, [["a", 1]], b"x", digest)) == {"a": b"x"}


def test_the_longest_unused_makes_room(
    taken: tuple[Snapshots, str], suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cupboard = Cupboard(tmp_path / "worker")
    for age, name in enumerate(("newest", "middle", "oldest", "used")):
        (cupboard.snapshots.root / name).mkdir()
        os.utime(cupboard.snapshots.root / name, (10**9 - age, 10**9 - age))
    (cupboard.snapshots.root / ".taking-1-other").mkdir()
    free = iter([0, 0, 10**12])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=next(free)))
    with serving(taken[0], suite) as shelf, cupboard.keep("used"):
        cupboard.fetch(shelf.place, taken[1], None)
    left = {path.name for path in cupboard.snapshots.root.iterdir()}
    assert left == {"newest", "used", ".taking-1-other", taken[1]}


def context(pem: Path, purpose: ssl.Purpose, *, known: bool = True) -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=str(pem))
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    if known:
        made.load_cert_chain(pem)
    return made


def test_with_certificates_only_who_has_one_is_served(
    taken: tuple[Snapshots, str], suite: Path, tmp_path: Path
) -> None:
    pem = certificate(tmp_path)
    inside = context(pem, ssl.Purpose.CLIENT_AUTH)
    with serving(taken[0], suite, inside) as shelf:
        cupboard = Cupboard(tmp_path / "worker")
        for tls in (None, context(pem, ssl.Purpose.SERVER_AUTH, known=False)):
            with pytest.raises((OSError, ValueError)):
                cupboard.fetch(shelf.place, taken[1], tls)
        found = cupboard.fetch(shelf.place, taken[1], context(pem, ssl.Purpose.SERVER_AUTH))
    assert found is not None
    assert contents(found) == FILES
