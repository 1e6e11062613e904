"""Fuzzes the reader of students' archives: `python tests/suite/grading/fuzz_archives.py SECONDS`.

Mutated zips and tars are unpacked in this process, so that nothing but the reader's own care stands between them
and the folder. Anything but an orderly refusal, or a file outside, ends the run and leaves the input behind.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
BOUNDS = {"files": 50, "file_bytes": 1 << 20, "total_bytes": 2 << 20, "depth": 4, "name_bytes": 60, "ratio": 100}


def seeds() -> list[bytes]:
    """Small archives of every kind that is read."""
    members = {"resnet50.onnx": bytes(3000), "calibration_data/batch_000.npy": b"\x93NUMPY", "a/b/c.json": b"{}"}
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        found.append(stream.getvalue())
    for compression in ("", "gz", "bz2", "xz"):
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode=f"w:{compression}", format=form) as tar:  # type: ignore[call-overload]
                for name, content in members.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            found.append(stream.getvalue())
    return found


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Flip, cut, repeat and replace a few stretches."""
    work = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at, length = chance.randrange(max(len(work), 1)), chance.choice((1, 1, 2, 4, 8, 64))
        kind = chance.randrange(4)
        if kind == 0:
            work[at : at + length] = chance.randbytes(length)
        elif kind == 1:
            del work[at : at + length]
        elif kind == 2:
            work[at:at] = work[at : at + length] * chance.randint(1, 4)
        else:
            work[at : at + length] = chance.choice((b"\0", b"\xff", b"../", b"/")) * length
    return bytes(work)


def main() -> int:
    """Fuzz for a while; 1 if something was found."""
    seconds, seed = float(sys.argv[1]), random.randrange(1 << 32)
    chance, sources = random.Random(seed), seeds()
    deadline, tried, taken = time.monotonic() + seconds, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while time.monotonic() < deadline:
            batch = folder / "batch"
            batch.mkdir()
            for number in range(200):
                (batch / f"{number}").write_bytes(mutated(chance.choice(sources), chance))
            line = [sys.executable, "-c", "from fuzz_archives import each; each()", str(batch), json.dumps(BOUNDS)]
            paths = f"{REPOSITORY}:{Path(__file__).parent}"
            done = subprocess.run(
                line, env={"PYTHONPATH": paths}, capture_output=True, text=True, timeout=300, check=False
            )
            strays = [path.name for path in folder.iterdir() if path.name != "batch"]
            if done.returncode != 0 or strays:
                kept = Path(tempfile.mkdtemp(prefix="fuzz-found-"))
                shutil.copytree(batch, kept, dirs_exist_ok=True)
                print(f"found something (seed {seed}); the batch is in {kept}: {strays}\n{done.stderr[-2000:]}")
                return 1
            tried += 200
            taken += int(done.stdout.split()[-1])
            shutil.rmtree(batch)
    print(f"{tried} archives in {seconds:.0f} s (seed {seed}): {taken} unpacked in part or whole, none misbehaved")
    return 0


def each() -> None:
    """Unpack a batch in this process; prints how many were taken."""
    import contextlib

    from grading import unpack

    batch, bounds, taken = Path(sys.argv[1]), sys.argv[2], 0
    for path in sorted(batch.iterdir()):
        target = batch / f"{path.name}.out"
        target.mkdir()
        sys.argv = ["unpack", str(path), str(target), bounds]
        said = io.StringIO()
        begun = time.monotonic()
        with contextlib.redirect_stdout(said):
            unpack.main()
        assert time.monotonic() - begun < 20, f"{path} took {time.monotonic() - begun:.0f} s"
        answer = json.loads(said.getvalue())
        assert set(answer) in ({"left_out"}, {"refused"}), answer
        sizes = [file.lstat().st_size for file in target.rglob("*") if file.is_file()]
        assert sum(sizes) <= 2 * (2 << 20), f"{path}: {sum(sizes)} bytes"
        assert not any(file.is_symlink() for file in target.rglob("*"))
        taken += "left_out" in answer
    print(taken)


if __name__ == "__main__":
    sys.exit(main())
