"""Hostile work: what a submission holds, and what it is called, so that others' grades might suffer."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.rehearsal import archives, graphs
from benchmarks.rehearsal.work import ROOT, Checks

if TYPE_CHECKING:
    from benchmarks.rehearsal.people import Person

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ATTACKS = ROOT / "tests" / "suite" / "grading" / "attacks"
_ON_DISK = ("folders", "moodle", "gradescope", "github")  # where a folder arrives as it is, links and all
_PRELUDE = """
import ctypes, json, os, pickle, platform, shutil, signal, socket, sys, time
bait = json.loads({bait!r})
os.chdir('/sandbox/work')
def win():
    open('answer.json', 'w').write('{{"answer": 42, "times2": 84, "times3": 126, "bonus": 1}}')
    open('won.txt', 'w').write('won')
def call(x86, arm, *arguments):
    number = x86 if platform.machine() == 'x86_64' else arm
    return ctypes.CDLL(None).syscall(ctypes.c_long(number), *arguments)
"""
# A hundred processes with 60,000 mappings each, which are slow to end.
_MAPPINGS = """
map_one = ctypes.CDLL(None).mmap
map_one.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
for _ in range(95):
    if os.fork() == 0:
        for i in range(60000): map_one(None, 4096, 1 + 2 * (i % 2), 0x22, -1, 0)
        time.sleep(60)
time.sleep(60)
"""


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a hostile student knows of the class: more than a real one would.

    Attributes:
        bait: paths and names that scripts are given.
        scratch: a folder that what is handed in can be made in.
    """

    checks: Checks
    bait: dict[str, Any]
    scratch: Path


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way of being hostile.

    Attributes:
        make: fills the folder; or makes an archive elsewhere, and says where.
        new: not among the kinds that the suite's attacks had before.
        platforms: where it is possible; () everywhere.
        called: what the folder or archive is called, as the file system has it.
        dated: when it was last changed, seconds since 1970.
        imitates: the name that this student goes by on the platform.
    """

    name: str
    make: Callable[[Path, Scene], Path | None]
    new: bool = False
    platforms: tuple[str, ...] = ()
    called: str = ""
    dated: float | None = None
    imitates: Callable[[Sequence[Person]], str] | None = None


def script(text: str, **beside: str) -> Callable[[Path, Scene], None]:
    """The lab's script, and texts beside it (`__` for a point)."""

    def make(folder: Path, scene: Scene) -> None:
        prelude = _PRELUDE.format(bait=json.dumps(scene.bait))
        (folder / scene.checks.script).write_text(f"{prelude}{text}\n")
        for name, content in beside.items():
            (folder / name.replace("__", ".")).write_text(content)

    return make


def _of_the_suite() -> dict[str, Callable[[Path, Scene], None]]:
    """The scripts of the suite's own attacks."""
    files = (_ATTACKS / name for name in ("scripts.toml", "neighbours.toml"))
    return {
        str(attack["name"]): script(str(attack["script"]))
        for file in files
        for attack in tomllib.loads(file.read_text(encoding="utf-8"))["attack"]
    }


def _file_for_a_folder(folder: Path, scene: Scene) -> None:
    script("open('x', 'w')")(folder, scene)
    (folder / scene.checks.lab).write_text("a file where what the script makes is put")


def _folder_for_a_file(folder: Path, scene: Scene) -> None:
    (folder / scene.checks.lab).mkdir()
    (folder / scene.checks.lab / scene.checks.document).write_text("{}")
    script(f"os.makedirs({scene.checks.document!r} + '/x'); open({scene.checks.document!r} + '/x/y', 'w')")(
        folder, scene
    )


def _many(folder: Path, scene: Scene) -> None:
    script("for n in range(2600): open('made%d' % n, 'w').close()")(folder, scene)
    for number in range(2600):
        (folder / f"file{number}").touch()


def _large_log(folder: Path, scene: Scene) -> None:
    script("f = open('lab.log', 'wb')\nfor _ in range(100): f.write(os.urandom(1 << 20))")(folder, scene)
    with (folder / "run.log").open("wb") as log:
        log.truncate(100 << 20)


def _links(folder: Path, scene: Scene) -> None:
    for name, place in (("neighbour", "neighbour"), (scene.checks.document, "hidden"), ("results", "results")):
        (folder / name).symlink_to(scene.bait[place])
    (folder / "root").symlink_to("/")
    (folder / "loop").symlink_to("loop")


def _specials(folder: Path, scene: Scene) -> None:
    os.mkfifo(folder / scene.checks.document)
    with (folder / scene.checks.artifact).open("wb") as file:
        file.truncate(4 << 30)


def _linked_clone(folder: Path, scene: Scene) -> None:
    (folder / "submission").symlink_to("/")
    os.mkfifo(folder / "conftest.py")


def _deep(folder: Path, scene: Scene) -> None:
    (folder / scene.checks.document).write_text('{"layers": ' + "[" * 200_000)


def _digits(folder: Path, scene: Scene) -> None:
    (folder / scene.checks.document).write_text('{"answer": 4' + "2" * 3_000_000 + "}")


def _pages(folder: Path, scene: Scene) -> None:
    script("sys.exit('</script><script>fetch(1)</script>\\x1b[2J\\u202e=HYPERLINK(1)\\x00')")(folder, scene)
    (folder / "<img src=x onerror=alert(1)>.txt").write_text("x")


def _pointer(folder: Path, scene: Scene) -> None:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 99999999999999\n"
    (folder / scene.checks.artifact).write_text(text)
    (folder / scene.checks.document).write_text(text * 20)


def _first(people: Sequence[Person]) -> Person:
    return next(person for person in people if person.kind is None)


_FORGED = _of_the_suite()
KINDS: tuple[Kind, ...] = (
    Kind("a file where a folder is expected", _file_for_a_folder, platforms=_ON_DISK),
    Kind("a folder made where a file was handed in", _folder_for_a_file),
    Kind("2,600 files handed in and 2,600 made", _many, platforms=_ON_DISK),
    Kind("functions that call the next one twice", graphs.function_bomb),
    Kind("ten gigabytes of output", _FORGED["ten gigabytes of output"]),
    Kind("a fork bomb", _FORGED["fork bomb"]),
    Kind("memory in mappings", script(_MAPPINGS)),
    Kind("logs of 100 MB", _large_log, platforms=_ON_DISK),
    Kind("a name in Big5", script("pass"), platforms=("folders",), called=os.fsdecode("許功蓋".encode("cp950"))),
    Kind("a name of 244 bytes", script("pass"), platforms=("folders",), called="長" * 81 + "n"),
    # ext4 keeps no date after 2446; tmpfs does, for `--work /dev/shm/…`.
    Kind("a date in the year 11476", script("pass"), platforms=("folders",), dated=300_000_000_000.0),
    Kind("a date before 1970", script("pass"), True, ("folders",), dated=-86_400.0),
    Kind("a zip bomb", archives.zip_bomb),
    Kind("links", _links, platforms=_ON_DISK),
    Kind("a reader of hidden tests", _FORGED["look for the tests"]),
    Kind("a reader of hidden tests by name", _FORGED["read the hidden tests by name"]),
    Kind("a forger of verdicts", _FORGED["write forged verdicts to every descriptor"]),
    Kind(
        "a busy neighbour",
        script("for _ in range(60):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(60)"),
    ),
    Kind("a socket for an answer", _FORGED["a socket for an answer"]),
    Kind("deaf to every signal", _FORGED["hang and ignore every signal"]),
    Kind("a FIFO and a sparse file", _specials, platforms=_ON_DISK),
    Kind("a tar of links", archives.tar_of_links),
    Kind("memory asked for by the graph", graphs.huge_constant),
    Kind("changes a neighbour's work", _FORGED["change a neighbour's answer"]),
    Kind("writes the results", _FORGED["write the grader's results"]),
    Kind("uses up the inodes", _FORGED["use up the inodes"]),
    # New ones.
    Kind("goes by a neighbour's name", script("pass"), True, ("gradescope",), imitates=lambda p: _first(p).name),
    Kind(
        "goes by the name that a neighbour is told apart by",
        script("pass"),
        True,
        ("gradescope",),
        imitates=lambda people: f"{_first(people).name} (submission_{_first(people).id})",
    ),
    Kind("brackets 200,000 deep", _deep, True),
    Kind("a number of three million digits", _digits, True),
    Kind("weights in /proc and in a neighbour's folder", graphs.external, True),
    Kind("a graph of 60,000 nodes", graphs.long, True),
    Kind("branches within branches", graphs.nested, True),
    Kind("a clone whose work is a link to the root", _linked_clone, True, _ON_DISK),
    Kind("formulas, markup and escapes", _pages, True, ("folders",), called="=cmd|' C calc'!A0<script>"),
    Kind("a tar whose file is a terabyte of holes", archives.sparse_tar, True),
    Kind("an archive in an archive, 30 deep", archives.matryoshka, True),
    Kind("pointers of Git LFS for everything", _pointer, True),
    Kind("evidence that unpacks for ever", archives.evidence_bomb, True, _ON_DISK),
    Kind("an .npz of a million million numbers", archives.npz_bomb, True),
)


def chosen(count: int, words: Sequence[str], draw: random.Random) -> list[Kind]:
    """So many of the kinds that hold one of these words: each once in an order that is drawn, then again."""
    among = [kind for kind in KINDS if any(word in kind.name for word in words)]
    found: list[Kind] = []
    while among and len(found) < count:
        found += draw.sample(among, len(among))
    return found[:count]
