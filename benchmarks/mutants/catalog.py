"""Every case there is, by base: made lazily, always the same and in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.mutants.bases import GRAPHS, Bases
from benchmarks.mutants.case import AS_IT_IS, Case
from benchmarks.mutants.right import exporters, layouts, quantizers, rewrites, students, training
from benchmarks.mutants.wrong import caches, documents, ends, evidence, halves, images, nodes, scales, weights


def cases(bases: Bases, base: str) -> Iterator[Case]:
    """The cases of one base, the base itself among them."""
    folder = bases.folder(base)
    yield Case(base, AS_IT_IS, AS_IT_IS, lambda _folder: None, None, "the labs' own, or a trained export of it")
    yield from wrong(base, folder)
    yield from right(base, folder)


def wrong(base: str, folder: Path) -> Iterator[Case]:
    """Wrong work."""
    lab, _dash, extra = base.partition("-")
    if extra in ("", "trained"):
        for file in GRAPHS[lab]:
            for source in (nodes, ends, weights):
                yield from source.cases(base, folder, file)
    if lab == "lab5":
        yield from scales.cases(base, folder, GRAPHS[lab][0])
    if extra == "int8":
        yield from scales.cases(base, folder, "resnet50_int8.onnx")
    if extra == "cache":
        yield from caches.cases(base, folder)
    if extra == "evidence":
        yield from evidence.cases(base)
    if extra == "fp16":
        yield from halves.cases(base)
    if lab == "lab4" and extra in ("", "trained"):
        yield from images.cases(base)
    if extra == "":
        yield from documents.cases(base, folder)


def right(base: str, folder: Path) -> Iterator[Case]:
    """Right work made differently."""
    lab, _dash, extra = base.partition("-")
    yield from students.cases(base)
    if extra in ("", "trained"):
        for file in GRAPHS[lab]:
            yield from rewrites.cases(base, folder, file)
            if "qat" not in file:
                yield from exporters.cases(base, file)
    if extra == "":
        yield from layouts.cases(base, folder)
    if lab == "lab5":
        yield from quantizers.graphs(base, GRAPHS[lab][0])
        yield from training.cases(base)
    if extra == "int8":
        yield from quantizers.graphs(base, "resnet50_int8.onnx")
        yield from quantizers.tools(base)
    if extra == "fp16":
        yield from exporters.fp16(base)
    if extra == "cache":
        yield from quantizers.caches(base)
