"""Hostile archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.rehearsal.hostile import Scene

_ZEROS = bytes(1 << 20)


def _zeros(archive: zipfile.ZipFile, name: str, megabytes: int) -> None:
    with archive.open(name, "w", force_zip64=True) as member:
        for _ in range(megabytes):
            member.write(_ZEROS)


def zip_bomb(folder: Path, scene: Scene) -> Path:
    """4 GB of zeros."""
    path = scene.scratch / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        _zeros(archive, scene.checks.artifact, 4096)
    return path


def tar_of_links(folder: Path, scene: Scene) -> Path:
    """Links to a neighbour and to the root, files through them, and a device."""
    path = scene.scratch / "links.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, target, kind in (
            (scene.checks.document, scene.bait["neighbour"], tarfile.SYMTYPE),
            ("out", "/", tarfile.SYMTYPE),
            ("hard", scene.bait["hidden"], tarfile.LNKTYPE),
            ("null", "", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(target)
            archive.addfile(member)
        for name in ("out/tmp/loot.txt", "../loot.txt", "/tmp/loot.txt"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"won"))
    return path


def sparse_tar(folder: Path, scene: Scene) -> Path:
    """GNU's sparse format: a few bytes that say that they are a terabyte."""
    path = scene.scratch / "holes.tar"
    member = tarfile.TarInfo(scene.checks.artifact)
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000001000\0"
    header[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    path.write_bytes(bytes(header) + bytes(512) + bytes(10240))
    return path


def matryoshka(folder: Path, scene: Scene) -> Path:
    """An archive in an archive in an archive."""
    content = b'{"answer": 42}'
    name = scene.checks.document
    for _ in range(30):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        content, name = stream.getvalue(), "work.zip"
    path = scene.scratch / "dolls.zip"
    path.write_bytes(content)
    return path


def evidence_bomb(folder: Path, scene: Scene) -> None:
    """An evidence.zip within the bounds that unpacks to gigabytes."""
    with zipfile.ZipFile(folder / "evidence.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("evidence.json", '{"format": 1}')
        _zeros(archive, "run.json", 3000)


def npz_bomb(folder: Path, scene: Scene) -> None:
    """Arrays whose headers say a million million numbers, and whose bytes are zeros."""
    head = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n"
    name = f"{scene.checks.artifact.removesuffix('.onnx')}.reference.npz"
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member in ("input.npy", "output.npy"):
            archive.writestr(member, head + len(text).to_bytes(2, "little") + text + bytes(1 << 20))
    (folder / scene.checks.artifact).write_bytes(b"\x08\x08")
