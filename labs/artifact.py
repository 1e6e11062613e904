"""What the five labs share: options, weights, progress, the manifest beside an artifact, what to run next."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

SCHEMA = 1
_PACKAGES = ("torch", "torchvision", "ultralytics", "onnx", "onnxruntime", "onnxscript", "numpy", "pillow", "tensorrt")
T = TypeVar("T")


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with the options that every lab has."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    result.add_argument(
        "--out", type=Path, default=Path("submission"), metavar="DIR", help="where artifacts are written"
    )
    result.add_argument(
        "--weights",
        choices=("auto", "pretrained", "untrained"),
        default="auto",
        help="auto: pretrained where the cache or the network has them, else seeded and marked untrained",
    )
    result.add_argument("--data", type=Path, metavar="DIR", help="a folder of real images")
    result.add_argument("--seed", type=int, default=0, metavar="N", help="seeds weights, crops and shuffles")
    return result


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that shape an artifact, without importing them."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a killed run leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_manifest(
    artifact: Path,
    *,
    lab: str,
    model: str,
    weights: str,
    seed: int,
    data: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write `<stem>.manifest.json` beside a file, or `manifest.json` inside a directory.

    Args:
        artifact: the finished file or directory.
        weights: "pretrained", "untrained" (no accuracy may be claimed) or "trained".
        data: where images came from; at least `source` and `images` (a count).
        preprocessing: what turns an image into the model's input, see `images.Preprocessing.describe`.
        more: lab-specific facts, JSON-serialisable.
    """
    if artifact.is_dir():
        path, digest = artifact / "manifest.json", None
    else:
        path, digest = artifact.with_suffix(".manifest.json"), sha256(artifact)
    manifest = {
        "schema": SCHEMA,
        "lab": lab,
        "model": model,
        "artifact": artifact.name,
        "sha256": digest,
        "weights": weights,
        "seed": seed,
        "data": dict(data),
        "preprocessing": dict(preprocessing) if preprocessing is not None else None,
        "versions": versions(),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        **more,
    }
    write_atomically(path, json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Iterate with a progress bar and the time left; silent when standard error is no terminal."""
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, desc=what, total=total, disable=not sys.stderr.isatty(), leave=False)
    return bar


def finish(artifacts: Sequence[Path], next_commands: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Say what was written and what to run next."""
    for path in artifacts:
        print(f"wrote {path}")
    for note in notes:
        print(f"note: {note}")
    if next_commands:
        print("next:")
        for command in next_commands:
            print(f"  {command}")


def stop(problem: str, remedy: str) -> SystemExit:
    """The one way a lab ends in failure: `raise stop(what is wrong, what to do)`, exit status 1."""
    return SystemExit(f"error: {problem}\n  try: {remedy}")
