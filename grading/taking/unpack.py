"""Run inside a sandbox by `archives`: unpacks a zip or tar member by member, plain files and folders alone.

Stands alone: argv is the archive, the folder to fill, and a JSON object of bounds. Prints one JSON object.
"""

from __future__ import annotations

import json
import lzma
import os
import posixpath
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

LeftOut = list[tuple[str, str]]  # a member's name, and in one word why it was left out
_BLOCK = 1 << 20
_RATIO_FREE = 16 << 20  # small files may compress as well as they like
_TAR_BLOCK = 512
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # of nothing
    b"PK\x07\x08": "zip",  # the first of several parts
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"]\x00\x00": "xz",  # LZMA alone, which tarfile reads as it does xz
    # What is not read, so that it can be named.
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"LZIP": "lzip",
    b"\x1f\x9d": "compress",
    b"%PDF": "PDF",
    b"<!DOCTYPE": "HTML",
    b"<!doctype": "HTML",
    b"<html": "HTML",
}
_READ = ("tar", "gz", "bz2", "xz")


class Refused(Exception):
    """The archive as a whole cannot be taken: which bound it breaks, and the member that does."""


def kind_of(path: str) -> str:
    """What a file is by its first bytes: "zip", what tarfile calls a tar ("tar", "gz", "bz2", "xz"), or else.

    A tar's end may be a zip, that of its last member; a zip's start may be a program that unpacks it. So a zip that
    does not begin as one is one only if nothing else fits. Else: "empty", or what is not read, in its own name.
    """
    with Path(path).open("rb") as file:
        head = file.read(_TAR_BLOCK)
    if not head:
        return "empty"
    if _tar_header(head):  # before the others: the first bytes are its first member's name, which may be any
        return "tar"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if zipfile.is_zipfile(path):
        return "zip"
    return "tar" if head == bytes(_TAR_BLOCK) else "none"  # a tar of nothing is zeros


def _tar_header(head: bytes) -> bool:
    """Whether a block is a tar's header: its sum fits, which holds for the oldest tars too, without a magic."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _zip(path: str, bounds: dict[str, Any], left_out: LeftOut) -> Iterator[tuple[str, IO[bytes], int]]:
    with zipfile.ZipFile(path) as archive:
        if len(archive.infolist()) > bounds["files"]:
            raise Refused("files")
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                left_out.append((member.filename, "kind"))
            elif member.flag_bits & 1:
                left_out.append((member.filename, "encrypted"))
            else:
                with archive.open(member) as content:
                    yield member.filename, content, max(member.compress_size, 1)


def _tar(path: str, bounds: dict[str, Any], left_out: LeftOut, kind: str) -> Iterator[tuple[str, IO[bytes], int]]:
    compressed = Path(path).stat().st_size
    mode: Any = "r:" if kind == "tar" else f"r:{kind}"
    with tarfile.open(path, mode) as archive:
        for count, member in enumerate(archive):
            if count >= bounds["files"]:
                raise Refused("files")
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is None:
                left_out.append((member.name, "kind"))
            else:
                yield member.name, content, max(compressed, 1)
        # tarfile takes a header that it cannot read, after the first, for the end.
        opened: Any = archive
        opened.fileobj.seek(opened.offset)
        if opened.fileobj.read(_TAR_BLOCK).strip(b"\0"):
            left_out.append((opened.members[-1].name if opened.members else "", "rest"))


def _parts(name: str, bounds: dict[str, Any]) -> tuple[str, ...] | str:
    """The folders and name of a member, or what is wrong with it, in one word."""
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    if posixpath.isabs(name) or ".." in parts or ":" in (parts[0] if parts else ""):
        return "path"
    if not parts:
        return "nameless"
    if len(parts) > bounds["depth"]:
        return "depth"
    if any(len(os.fsencode(part)) > bounds["name_bytes"] or not part.isprintable() for part in parts):
        return "name"
    return parts


def _unpack(source: str, target: Path, bounds: dict[str, Any]) -> LeftOut:
    left_out: LeftOut = []
    total = 0
    kind = kind_of(source)
    if kind != "zip" and kind not in _READ:
        raise Refused("other" if kind not in ("empty", "none") else kind, kind)
    members = _zip(source, bounds, left_out) if kind == "zip" else _tar(source, bounds, left_out, kind)
    for name, content, compressed in members:
        parts = _parts(name, bounds)
        if isinstance(parts, str):
            left_out.append((name, parts))
            continue
        path = target.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            out = path.open("xb")  # never through a link, never twice
        except OSError:
            left_out.append((name, "twice"))
            continue
        size = 0
        with out:
            while block := content.read(_BLOCK):
                size += len(block)
                total += len(block)
                if size > bounds["file_bytes"] or total > bounds["total_bytes"]:
                    raise Refused("total_bytes")
                if size > _RATIO_FREE and size > bounds["ratio"] * compressed:
                    raise Refused("ratio", name)
                out.write(block)
    return left_out


def _ended(problem: Exception, source: str) -> bool:
    """Whether an archive could not be read since it ends too early."""
    if isinstance(problem, EOFError) or isinstance(problem.__cause__, EOFError):
        return True
    if isinstance(problem, zipfile.BadZipFile):  # what every zip ends with is not there
        return not zipfile.is_zipfile(source)
    return isinstance(problem, tarfile.ReadError) and "unexpected end of data" in str(problem)


def main() -> None:
    """Print {"left_out": [[name, why], …]} or {"refused": why, "detail": text}. `archives` puts it into words."""
    source, target, bounds = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    try:
        said: dict[str, Any] = {"left_out": [(name[:300], why) for name, why in _unpack(source, target, bounds)[:60]]}
    except Refused as problem:
        why, *detail = problem.args
        said = {"refused": why, "detail": "".join(detail)[:300]}
    except (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
        *(ValueError, KeyError, IndexError, NotImplementedError, RuntimeError, OverflowError, MemoryError),
    ) as problem:  # what zipfile, tarfile and the decompressors raise on bytes that are no archive
        reason = f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:300]
        said = {"refused": "cut" if _ended(problem, source) else "unreadable", "detail": reason}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
