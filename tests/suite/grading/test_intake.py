"""Folders and archives that lie about what they are."""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trtverify.grading.taking import archives
from trtverify.grading.taking.intake import Bounds, RejectedError, Snapshot, Snapshots, opened_folder

SMALL = Bounds(files=20, file_bytes=1 << 20, total_bytes=2 << 20, depth=3, name_bytes=50)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the submission that must never be read or changed."""
    path = tmp_path / "secret"
    path.write_text("hidden tests")
    return path


@pytest.fixture
def take(tmp_path: Path) -> Callable[[Path], Snapshot]:
    return lambda source: archives.take(source, Snapshots(tmp_path / "snapshots", SMALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "student"
    path.mkdir()
    (path / "model.onnx").write_bytes(b"honest")
    (path / "notes.txt").write_bytes(b"x")
    return path


def files(snapshot: Snapshot) -> dict[str, bytes]:
    found = {}
    for path in snapshot.path.rglob("*"):
        assert stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR)
        if path.is_file():
            found[str(path.relative_to(snapshot.path))] = path.read_bytes()
    return found


def test_equal_content_has_one_digest_whatever_holds_it(
    take: Callable[[Path], Snapshot], folder: Path, bwrap: None
) -> None:
    with zipfile.ZipFile(folder.parent / "other.zip", "w") as archive:
        archive.write(folder / "notes.txt", "other/notes.txt")
        archive.write(folder / "model.onnx", "other/model.onnx")
    with tarfile.open(folder.parent / "third.tar.gz", "w:gz") as tar:
        tar.add(folder, ".")
    taken = [take(folder), take(folder.parent / "other.zip"), take(folder.parent / "third.tar.gz")]
    assert len({snapshot.digest for snapshot in taken}) == 1
    assert files(taken[0]) == {"model.onnx": b"honest", "notes.txt": b"x"}
    (folder / "notes.txt").write_bytes(b"y")
    assert take(folder).digest != taken[0].digest


def hostile(folder: Path, kind: str, secret: Path) -> None:
    path = folder / "resnet50.onnx"
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "folder link":
        path.symlink_to(secret.parent)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to("resnet50.onnx")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "unprintable":
        path.with_name("a\x1b[2Jb.onnx").touch()
    elif kind == "invalid UTF-8":
        os.close(os.open(os.fsencode(folder) + b"/\xff\xfe.onnx", os.O_CREAT, 0o644))
    elif kind == "long":
        path.with_name("n" * 60).touch()
    elif kind == "engine":
        path.with_name("resnet50_fp16.engine").write_bytes(b"ftrt")
    elif kind == "pickle":
        path.with_name("Best.PT").write_bytes(b"cos\n_exit\n(I0\ntR.")
    elif kind == "deep":
        path.with_name("a").joinpath("b", "c", "d", "e").mkdir(parents=True)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("link", "a link"),
        ("folder link", "a link"),
        ("dangling", "a link"),
        ("loop", "a link"),
        ("fifo", "a FIFO"),
        ("socket", "a socket"),
        pytest.param(
            "device", "a device", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
        ),
        ("unprintable", "cannot be printed"),
        ("invalid UTF-8", "cannot be printed"),
        ("long", "longer than"),
        ("deep", "deeper than"),
        ("engine", "ignored: an engine is never loaded"),
        ("pickle", "ignored: a pickle is a program"),
    ],
)
def test_what_is_no_plain_file_is_left_out_and_named(
    take: Callable[[Path], Snapshot], folder: Path, secret: Path, kind: str, reason: str
) -> None:
    hostile(folder, kind, secret)
    snapshot = take(folder)
    assert files(snapshot) == {"model.onnx": b"honest", "notes.txt": b"x"}
    assert len(snapshot.left_out) == 1
    assert reason in snapshot.left_out[0]
    assert snapshot.left_out[0].isprintable()


def test_a_sparse_file_of_4_tib_is_refused_before_it_is_read(
    take: Callable[[Path], Snapshot], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "huge.npy").open("wb") as file:
        file.truncate(4 << 40)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it is read"))
    with pytest.raises(RejectedError, match=r"huge\.npy brings it over the bounds"):
        take(folder)
    assert list((folder.parent / "snapshots").iterdir()) == []


def test_many_small_files_are_refused(take: Callable[[Path], Snapshot], folder: Path) -> None:
    for number in range(30):
        (folder / str(number)).touch()
    with pytest.raises(RejectedError, match="more than 20 files"):
        take(folder)


def test_many_files_that_are_too_much_together_are_refused(take: Callable[[Path], Snapshot], folder: Path) -> None:
    for number in range(3):
        (folder / str(number)).write_bytes(bytes(1 << 20))
    with pytest.raises(RejectedError, match="over the bounds"):
        take(folder)


def test_a_swap_to_a_link_while_it_is_read_shows_nothing(folder: Path, secret: Path, tmp_path: Path) -> None:
    target, stop = folder / "swapped.onnx", threading.Event()

    def swap() -> None:
        while not stop.is_set():
            plain, link = folder / ".plain", folder / ".link"
            plain.write_bytes(b"plain")
            link.symlink_to(secret)
            plain.replace(target)
            link.replace(target)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for number in range(100):
            with opened_folder(folder) as fd:
                snapshot = Snapshots(tmp_path / f"snapshots{number}").take(fd)
            assert secret.read_bytes() not in files(snapshot).values()
    finally:
        stop.set()
        swapper.join()


def test_a_snapshot_does_not_change_with_its_source(take: Callable[[Path], Snapshot], folder: Path) -> None:
    snapshot = take(folder)
    (folder / "model.onnx").write_bytes(b"swapped after the check")
    assert files(snapshot)["model.onnx"] == b"honest"


def test_a_submission_that_is_a_link_is_refused(take: Callable[[Path], Snapshot], folder: Path) -> None:
    link = folder.with_name("mallory")
    link.symlink_to(folder)
    with pytest.raises(RejectedError, match="a link"):
        take(link)


def a_zip(path: Path, *members: tuple[str, bytes], mode: int = 0, times: int = 1) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            for _ in range(times):
                archive.writestr(info, content)
    return path


def a_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member_name, member_kind in (("good.onnx", tarfile.REGTYPE), (name, kind)):
            info = tarfile.TarInfo(member_name)
            info.type, info.linkname, info.size = (
                member_kind,
                link,
                len(content) if member_kind == tarfile.REGTYPE else 0,
            )
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "..\\out", "C:\\out", "a/b/c/d/e", "x\x1b[2J"])
def test_members_that_slip_are_left_out(take: Callable[[Path], Snapshot], tmp_path: Path, name: str) -> None:
    snapshot = take(a_zip(tmp_path / "a.zip", ("good.onnx", b"1"), (name, b"2")))
    assert files(snapshot) == {"good.onnx": b"1"}
    assert len(snapshot.left_out) == 1
    assert take(a_tar(tmp_path / "a.tgz", name)).left_out != ()


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_tar_members_that_are_no_files_are_left_out(
    take: Callable[[Path], Snapshot], tmp_path: Path, kind: bytes
) -> None:
    snapshot = take(a_tar(tmp_path / "a.tar.gz", "resnet50.onnx", kind, link="/etc/passwd"))
    assert files(snapshot) == {"good.onnx": b""}


@pytest.mark.usefixtures("nothing_left")
def test_a_zip_link_is_left_out_and_nothing_goes_through_it(take: Callable[[Path], Snapshot], tmp_path: Path) -> None:
    path = a_zip(tmp_path / "a.zip", ("dir", b"/tmp"), mode=stat.S_IFLNK | 0o777)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("dir/out", b"through")
    snapshot = take(path)
    assert "link" in snapshot.left_out[0]
    assert set(files(snapshot).values()) == {b"through"}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_second_member_of_a_name_does_not_replace_the_first(take: Callable[[Path], Snapshot], tmp_path: Path) -> None:
    path = a_zip(tmp_path / "a.zip", ("model.onnx", b"first"), ("model.onnx", b"second"))
    snapshot = take(path)
    assert files(snapshot) == {"model.onnx": b"first"}
    assert "a second member" in snapshot.left_out[0]


def lying_size(path: Path) -> Path:
    """A zip whose directory says 1 byte where 8 MiB come out."""
    data = bytearray(a_zip(path, ("model.onnx", bytes(8 << 20))).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", 1)
    path.write_bytes(data)
    return path


def spoilt_lzma(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("model.onnx", os.urandom(3000))
    data = bytearray(path.read_bytes())
    data[60:1000] = b"\xff" * 940
    path.write_bytes(data)
    return path


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: a_zip(path, ("zeros", bytes(64 << 20))), id="bomb"),
        pytest.param(lambda path: a_zip(path, *((f"{n}", b"") for n in range(30))), id="many members"),
        pytest.param(lambda path: a_zip(path, *((f"{n}", bytes(1 << 20)) for n in range(4))), id="large together"),
        pytest.param(lying_size, id="a size that lies"),
        pytest.param(lambda path: (path.write_bytes(b""), path)[1], id="empty"),
        pytest.param(lambda path: (path.write_bytes(b"PK\x05\x06" + b"\xff" * 18), path)[1], id="end record alone"),
        pytest.param(
            lambda path: (path.write_bytes(a_zip(path, ("a", b"1" * 99)).read_bytes()[:60]), path)[1], id="cut"
        ),
        pytest.param(lambda path: (path.write_bytes(os.urandom(4096)), path)[1], id="noise"),
        pytest.param(lambda path: spoilt_lzma(path), id="LZMA that is spoilt"),  # found by fuzzing
    ],
)
def test_an_archive_out_of_bounds_is_refused(
    take: Callable[[Path], Snapshot], tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    with pytest.raises(RejectedError) as refusal:
        take(make(tmp_path / "a.zip"))
    assert str(refusal.value).isprintable()
    assert "within the bounds" not in str(refusal.value), "the reader fell over instead of refusing"
    assert list((tmp_path / "snapshots").iterdir()) == []


@pytest.mark.usefixtures("nothing_left")
def test_a_tar_bomb_is_refused(take: Callable[[Path], Snapshot], tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="more than"):
        take(a_tar(tmp_path / "a.tar.gz", "zeros", content=bytes(64 << 20)))


@pytest.mark.parametrize(
    ("name", "student"), [("ann.zip", "ann"), ("bo.li.tar.gz", "bo.li"), ("cy", "cy"), ("D.TGZ", "D")]
)
def test_the_student_is_the_name_without_the_archive_suffix(name: str, student: str) -> None:
    assert archives.student_of(Path(name)) == student
