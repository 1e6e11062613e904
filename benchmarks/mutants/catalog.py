"""Every case there is, by base: made lazily, always the same and in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.mutants.bases import GRAPHS, Bases
from benchmarks.mutants.case import AS_IT_IS, Case
from benchmarks.mutants.wrong import ends, nodes, weights


def cases(bases: Bases, base: str) -> Iterator[Case]:
    """The cases of one base, the base itself among them."""
    folder = bases.folder(base)
    yield Case(base, AS_IT_IS, AS_IT_IS, lambda _folder: None, None, "the labs' own, or a trained export of it")
    yield from wrong(base, folder)


def wrong(base: str, folder: Path) -> Iterator[Case]:
    """Wrong work."""
    lab, _dash, extra = base.partition("-")
    if extra in ("", "trained"):
        for file in GRAPHS[lab]:
            for source in (nodes, ends, weights):
                yield from source.cases(base, folder, file)
