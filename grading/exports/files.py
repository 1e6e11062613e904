"""Writing one file for each student, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..grade import Grade
from ..store import write_beside
from ..taking.listing import file_names


def each(results: Sequence[Grade], folder: Path, suffix: str, content: Callable[[Grade], bytes]) -> list[Path]:
    """Write `folder`/student`suffix` for every student; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    names = file_names(result.student for result in results)
    written = []
    for result in results:
        path = folder / f"{names[result.student]}{suffix}"
        write_beside(path, content(result))
        written.append(path)
    return written


def as_json(value: Any) -> bytes:
    """Strict JSON in UTF-8: never NaN."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
