"""Who may import whom: no circle anywhere, and each room keeps to what the README says of it."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("benchmarks", "fixtures", "grading", "labs", "trtverify")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
ROOMS = tomllib.loads(Path(__file__).with_name("rooms.toml").read_text(encoding="utf-8"))
LOOSE = {file: room for room, files in ROOMS["grading"].pop("loose").items() for file in files}
MOST_FILES = 12


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
            found |= {alias.name.removeprefix("trtverify.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (above, node.module))).removeprefix("trtverify.")
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else source for name in names}
    return found - {module}


IMPORTS = {module: imported(module) for module in FILES}


def room_of(module: str) -> tuple[str, str] | None:
    """The folder and the room that a module lies in; None for a folder's own `__init__`."""
    folder, *parts = module.split(".")
    if not parts:
        return None
    if (ROOT / folder / parts[0]).is_dir():
        return folder, parts[0]
    return folder, LOOSE.get(parts[0], parts[0]) if folder == "grading" else parts[0]


def below(folder: str, room: str) -> set[str]:
    """The rooms that one stands on, and those that they stand on."""
    found: set[str] = set()
    for other in ROOMS[folder][room]:
        found |= {other} | below(folder, other)
    return found


def back_up(imports: Mapping[str, set[str]]) -> list[str]:
    """Imports of a room that the importing one does not stand on, and files that lie in no room."""
    wrong = []
    for module, names in imports.items():
        place = room_of(module)
        if place is None or place[0] not in ROOMS:
            continue
        folder, room = place
        if room not in ROOMS[folder]:
            wrong.append(f"{module} is in no room of rooms.toml")
            continue
        may = {room} | below(folder, room)
        for name in sorted(names & set(FILES)):
            other = room_of(name)
            if other is not None and other[0] == folder and other[1] not in may:
                wrong.append(f"{module} imports {name}, but {room} does not stand on {other[1]}")
    return wrong


def test_no_arrow_runs_back_up() -> None:
    assert back_up(IMPORTS) == []


@pytest.mark.parametrize(
    ("module", "imports", "said"),
    [
        ("fixtures.words.verdict", "fixtures.claims.case", "words does not stand on claims"),
        ("fixtures.graphs.rules", "fixtures.backends.base", "graphs does not stand on backends"),
        ("grading.sandbox.box", "grading.store", "sandbox does not stand on unit"),
        ("grading.store", "grading.run", "unit does not stand on run"),
        ("fixtures.utils", "fixtures.later", "in no room"),
        ("grading.helpers", "grading.store", "in no room"),
    ],
)
def test_an_arrow_back_up_is_seen(module: str, imports: str, said: str) -> None:
    assert said in "".join(back_up({module: {imports}}))


def test_rooms_stay_small() -> None:
    for folder in ("fixtures", "grading"):
        for room in sorted({path.parent for path in (ROOT / folder).rglob("*.py")}):
            files = [path.name for path in room.glob("*.py") if not path.name.startswith("__")]
            assert len(files) <= (3 if room == ROOT / "fixtures" else MOST_FILES), f"{room.name}: {files}"


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
        module.startswith(("fixtures.backends.onnxruntime.", "fixtures.graphs.", "fixtures.computed."))
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
