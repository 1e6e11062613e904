"""Who may import whom: no circle anywhere, and each room keeps to what the README says of it."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("benchmarks", "fixtures", "grading", "labs")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs on import or later, without what only a type checker or `python -m` reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
            continue
        yield node
        yield from statements(node)


def imported(module: str) -> set[str]:
    """The modules that one imports, ours by their whole name, also inside functions."""
    path, found = FILES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (above, node.module)))
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else source for name in names}
    return found - {module}


IMPORTS = {module: imported(module) for module in FILES}


def test_there_is_no_circle() -> None:
    ours = {module: {name for name in names if name in FILES} for module, names in IMPORTS.items()}
    try:
        list(graphlib.TopologicalSorter(ours).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def who(library: str, room: str = "") -> set[str]:
    """The modules of a room that import a library."""
    return {
        module
        for module, names in IMPORTS.items()
        if module.startswith(room) and any(name.split(".")[0] == library for name in names)
    }


def test_backends_know_nothing_of_pytest_labs_and_grading() -> None:
    for library in ("pytest", "labs", "grading", "tests"):
        assert not who(library, "fixtures.backends"), library


def test_each_stack_is_imported_by_its_own_backend() -> None:
    assert all(module.startswith("fixtures.backends.tensorrt.") for module in who("tensorrt", "fixtures"))
    assert who("tensorrt_rtx", "fixtures") <= {"fixtures.backends.tensorrt_rtx"}
    assert all(
        module.startswith(("fixtures.backends.onnxruntime.", "fixtures.graphs."))
        for module in who("onnxruntime", "fixtures")
    )


def test_labs_are_alone() -> None:
    for module, names in IMPORTS.items():
        if module.startswith("labs."):
            assert not {name.split(".")[0] for name in names} & {"fixtures", "grading", "tests", "benchmarks"}, module


def test_grading_starts_pytest_as_a_program() -> None:
    assert who("pytest", "grading") == {"grading.plugin"}
    for room in ("fixtures", "grading", "labs"):
        assert not who("tests", room) | who("conftest", room), room
