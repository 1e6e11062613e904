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


class Refused(Exception):
    """The archive as a whole cannot be taken: which bound it breaks, and the member that does."""


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


def _tar(path: str, bounds: dict[str, Any], left_out: LeftOut) -> Iterator[tuple[str, IO[bytes], int]]:
    compressed = Path(path).stat().st_size
    with tarfile.open(path, "r:*") as archive:
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
    members = _zip if zipfile.is_zipfile(source) else _tar
    for name, content, compressed in members(source, bounds, left_out):
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
        reason = " ".join(str(problem).split())
        said = {"refused": "unreadable", "detail": f"{type(problem).__name__}: {reason}"[:300]}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
