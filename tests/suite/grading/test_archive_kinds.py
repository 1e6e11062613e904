"""What an archive is by its content, whatever it is called; archives in archives; what is none, in one sentence."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trtverify.grading.taking import archives, layouts
from trtverify.grading.taking.intake import RejectedError, Snapshot, Snapshots

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def take(tmp_path: Path) -> Callable[[str, bytes], Snapshot]:
    def taken(name: str, content: bytes) -> Snapshot:
        (tmp_path / name).write_bytes(content)
        return archives.take(tmp_path / name, Snapshots(tmp_path / "snapshots"))

    return taken


def a_zip(*members: tuple[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def a_tar(*members: tuple[str, bytes], mode: str = "w:", form: int = tarfile.GNU_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def an_npz() -> bytes:
    data = io.BytesIO()
    np.savez(data, scales=np.ones(3))
    return data.getvalue()


def names(snapshot: Snapshot) -> list[str]:
    return sorted(path.relative_to(snapshot.path).as_posix() for path in snapshot.path.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("last", [an_npz(), a_zip(("a", b"1"))], ids=["npz", "zip"])
def test_a_tar_that_ends_as_a_zip_is_a_tar(take: Callable[[str, bytes], Snapshot], last: bytes, form: int) -> None:
    # The last member's zip lies within the 64 KiB from the end that a zip is looked for in.
    whole = a_tar(("resnet50.onnx", b"model"), ("z.npz", last), form=form)
    assert names(take("a.tar", whole)) == ["resnet50.onnx", "z.npz"]


def test_the_oldest_tar_and_one_whose_first_name_is_a_zips(take: Callable[[str, bytes], Snapshot]) -> None:
    old = bytearray(a_tar(("resnet50.onnx", b"model"), ("z.npz", an_npz())))
    for start in (0, 1024):  # as before there was a magic
        old[start + 257 : start + 265] = bytes(8)
        old[start + 148 : start + 156] = b" " * 8
        old[start + 148 : start + 156] = b"%06o\0 " % sum(old[start : start + 512])
    assert names(take("old.tar", bytes(old))) == ["resnet50.onnx", "z.npz"]
    assert names(take("pk.tar", a_tar(("BZh9.json", b"{}"), ("PK", b"1")))) == ["BZh9.json", "PK"]


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
def test_the_name_decides_nothing(take: Callable[[str, bytes], Snapshot], mode: str) -> None:
    members = (("resnet50.onnx", b"model"), ("z.npz", an_npz()))
    assert names(take("a.zip", a_tar(*members, mode=mode))) == ["resnet50.onnx", "z.npz"]
    assert names(take("a.tar.gz", a_zip(*members))) == ["resnet50.onnx", "z.npz"]
    assert names(take("b.zip", b"#!/bin/sh\n" + a_zip(*members))) == ["resnet50.onnx", "z.npz"]
    lone = lzma.compress(a_tar(*members), format=lzma.FORMAT_ALONE)
    assert names(take("a.tar.xz", lone)) == ["resnet50.onnx", "z.npz"]


WHOLE = {
    "a.zip": a_zip(("a.onnx", b"1" * 5000), ("b.onnx", b"2" * 5000)),
    **{
        f"a{suffix}": a_tar(("a.onnx", bytes(range(256)) * 99), ("b.onnx", b"2" * 5000), mode=f"w:{suffix[5:]}")
        for suffix in (".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
    },
}


@pytest.mark.parametrize("name", sorted(WHOLE))
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_what_is_cut_off_says_so(take: Callable[[str, bytes], Snapshot], name: str, share: float) -> None:
    whole = WHOLE[name]
    assert names(take("whole" + name[1:], whole)) == ["a.onnx", "b.onnx"]
    with pytest.raises(RejectedError, match="cut off: hand it in again"):
        take(name, whole[: int(share * len(whole))])


def test_what_follows_damage_in_a_tar_is_missed(take: Callable[[str, bytes], Snapshot]) -> None:
    spoilt = bytearray(a_tar(("a.onnx", b"1"), ("b.onnx", b"2")))
    spoilt[1024:1100] = b"\xff" * 76
    snapshot = take("a.tar", bytes(spoilt))
    assert names(snapshot) == ["a.onnx"]
    assert snapshot.left_out == ("a.onnx: the archive is damaged after it, and what follows is lost: hand it in again",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\x00\x01" * 300, "no zip or tar archive, whatever its name says"),
        (b"<!DOCTYPE html><title>Log in</title>", "it is HTML"),
        (b"Rar!\x1a\x07\x01\x00" + b"x" * 99, "it is RAR"),
        (b"7z\xbc\xaf\x27\x1c" + b"x" * 99, "it is 7z"),
    ],
)
def test_what_is_no_archive_is_called_what_it_is(
    take: Callable[[str, bytes], Snapshot], content: bytes, said: str
) -> None:
    with pytest.raises(RejectedError, match=said):
        take("a.zip", content)


def test_an_archive_of_an_archive_is_taken_and_one_deeper_is_named(take: Callable[[str, bytes], Snapshot]) -> None:
    inner = a_tar(("resnet50.onnx", b"model"), ("../x", b"1"), mode="w:gz")
    snapshot = take("a.zip", a_zip(("mine/work.tgz", inner), ("mine/notes.txt", b"")))
    assert names(snapshot) == ["resnet50.onnx"]
    assert snapshot.left_out == ("../x: its path leaves the archive", "notes.txt: lies beside the archive")
    deep = take("b.zip", a_zip(("work.zip", a_zip(("work.tgz", inner)))))
    assert names(deep) == ["work.tgz"]
    assert "work.tgz: an archive that lies so deep in others is not unpacked" in deep.left_out[0]
    beside = take("c.zip", a_zip(("resnet50.onnx", b"model"), ("lab4.zip", a_zip(("x", b"")))))
    assert beside.left_out == ("lab4.zip: an archive beside other files is not unpacked",)
    within = take("e.zip", a_zip(("labs/work.zip", a_zip(("x", b"")))))
    assert within.left_out == ("labs/work.zip: an archive beside other files is not unpacked",)
    other = take("d.zip", a_zip(("work.7z", b"7z")))
    assert other.left_out == ("work.7z: this kind of archive is not read: hand in a zip",)


def test_an_archive_of_a_kind_that_is_not_read_is_its_students(tmp_path: Path) -> None:
    for name in ("ann.7z", "bob.zip", "bob.rar", "cy.tar.zst", "notes.txt"):
        (tmp_path / name).touch()
    found, ignored = layouts.listed(tmp_path)
    assert [entry.student for entry in found] == ["ann", "bob", "cy"]
    assert ignored == [
        "bob.rar (a kind of archive that is not read)",
        "notes.txt (neither a folder nor an archive)",
    ]
    with pytest.raises(RejectedError, match=r"expected a folder or an archive \(\.zip .*found ann\.7z"):
        archives.take(found[0].source, Snapshots(tmp_path / "snapshots"))
