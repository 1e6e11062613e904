"""A class of hostile submissions and honest ones, graded together in random order: each gets what is due, no more."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import random
import secrets
import socket
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.suite.grading.toy_class import HONEST, Class
from trtverify.grading.sandbox.launch import python_roots

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ATTACKS = Path(__file__).with_name("attacks")
HONEST_STUDENTS = tuple(f"honest{number}" for number in range(6))
TESTS = ["test_answer", "test_products[2]", "test_products[3]", "test_bonus", "test_parser", "test_after_the_parser"]
RUBRIC = """
[limits.scripts]
wall_seconds = 6
cpu_seconds = 30
memory_bytes = 700_000_000
processes = 100
file_bytes = 100_000_000
disk_bytes = 100_000_000
inodes = 4000
output_bytes = 4_000_000
[limits.tests]
wall_seconds = 20
memory_bytes = 1_000_000_000
"""
PRELUDE = """
import ctypes, json, os, pickle, platform, shutil, signal, socket, sys, time
bait = json.loads({bait!r})
os.chdir('/sandbox/work')
def win():
    open('answer.json', 'w').write({answer!r})
def call(x86, arm, *arguments):
    number = x86 if platform.machine() == 'x86_64' else arm
    return ctypes.CDLL(None).syscall(ctypes.c_long(number), *arguments)
"""


def load(name: str) -> list[dict[str, Any]]:
    attacks: list[dict[str, Any]] = tomllib.loads((ATTACKS / f"{name}.toml").read_text(encoding="utf-8"))["attack"]
    return attacks


# Those that need a limit, or a machine, of their own run in test_attack_controls.py alone.
NEIGHBOURS = [attack for attack in load("neighbours") if not {"memory", "ungrouped"} & set(attack)]
SCRIPTS, FILES = [*load("scripts"), *NEIGHBOURS], load("files")
EVERY = [*SCRIPTS, *FILES]
QUICK = {
    *("exit-at-once", "segfault", "patch-pytest", "leave-a-conftest-and-an-ini", "leave-forged-results"),
    *("write-forged-verdicts-to-every-descriptor", "read-the-hidden-tests-by-name", "copy-a-neighbour's-answer"),
    *("link-to-a-neighbour's-answer", "read-the-grader's-environment", "call-home-by-TCP", "call-an-abstract-socket"),
    *("be-root-in-a-new-namespace", "kill-everybody", "terminal-escapes", "a-FIFO-for-an-answer"),
}


def student(attack: dict[str, Any]) -> str:
    """The student's name: the attack's."""
    return str(attack["name"]).replace(" ", "-")


def cases(attacks: list[dict[str, Any]]) -> list[Any]:
    """Parameters; those that take seconds each, being waited for or unpacked, are slow."""
    return [
        pytest.param(
            attack,
            id=student(attack),
            marks=[pytest.mark.slow]
            if attack.get("parser") == "crash"
            or "zip_zeros" in attack
            or (attack in SCRIPTS and student(attack) not in QUICK)
            else [],
        )
        for attack in attacks
    ]


@dataclasses.dataclass(frozen=True)
class Graded:
    """The class after grading."""

    a_class: Class
    verdicts: dict[str, dict[str, str]]
    outside: dict[str, str]
    attacks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def graded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bwrap: None) -> Graded:
    """The attacks of the tests that were selected, and honest work, in random order, graded once."""
    wanted = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    chosen = [attack for attack in EVERY if student(attack) in wanted]
    folder = tmp_path_factory.mktemp("attacks")
    token = secrets.token_hex(8)
    a_class = Class(folder / "submissions", folder / "results")
    a_class.submissions.mkdir()
    (folder / "rubric.toml").write_text(RUBRIC)
    hidden = folder / "hidden"
    hidden.mkdir()
    (hidden / "test_hidden.py").write_text("def test_secret(): 'secret'\n")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0attack-" + token)
        abstract.listen()
        bait = {
            "neighbour": str(a_class.submissions / "honest0" / "answer.json"),
            "hidden": str(hidden / "test_hidden.py"),
            "results": str(a_class.out / "results.sqlite"),
            "token": token,
            "port": listener.getsockname()[1],
            "abstract": "attack-" + token,
            "pid": os.getpid(),
            "python": list(python_roots().values()),
        }
        order = [*HONEST_STUDENTS, *map(student, chosen)]
        random.shuffle(order)
        hostile = {student(attack): attack for attack in EVERY}
        for name in order:
            if name in hostile:
                hand_in(a_class, hostile[name], bait)
            else:
                a_class.hand_in(name, {"answer.json": {**HONEST, "by": name}, "parsed.txt": b"fine"})
        before = {str(path): digest(path) for path in (hidden, a_class.submissions)}
        os.environ["GRADING_TOKEN"] = token
        try:
            a_class("run", "--workers", "2", "--rubric", str(folder / "rubric.toml"), "--hidden-tests", str(hidden))
        finally:
            del os.environ["GRADING_TOKEN"]
    return Graded(a_class, a_class.verdicts(), before, chosen)


def hand_in(a_class: Class, attack: dict[str, Any], bait: dict[str, Any]) -> None:
    """Make one hostile submission from its description."""
    name = student(attack)
    archive = next((kind for kind in ("zip", "zip_zeros", "tar_link", "raw") if kind in attack), None)
    if archive is not None:
        suffix = ".tar.gz" if archive == "tar_link" else ".zip"
        (a_class.submissions / f"{name}{suffix}").write_bytes(an_archive(archive, attack[archive], bait))
        return
    files: dict[str, object] = {"parsed.txt": b"fine"}
    if attack.get("answer") == "passed":
        files["answer.json"] = HONEST
    if "script" in attack:
        prelude = PRELUDE.format(bait=json.dumps(bait), answer=json.dumps(HONEST))
        files["lab1_export_resnet50.py"] = (prelude + attack["script"] + "\n").encode()
    for path, content in attack.get("files", {}).items():
        files[path] = base64.b64decode(content["base64"]) if isinstance(content, dict) else content.encode()
    if "repeat" in attack:
        told = attack["repeat"]
        files[told["file"]] = (told["before"] + told["text"] * told["times"] + told["after"]).encode()
    folder = a_class.hand_in(name, files)
    if "link" in attack:
        (folder / attack["link"]).symlink_to(bait["neighbour"])
    if "fifo" in attack:
        os.mkfifo(folder / attack["fifo"])
    if "sparse" in attack:
        with (folder / attack["sparse"]).open("wb") as file:
            file.truncate(4 << 40)


def an_archive(kind: str, told: Any, bait: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    if kind == "raw":
        return str(told).encode()
    if kind == "tar_link":
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            member = tarfile.TarInfo(told)
            member.type, member.linkname = tarfile.SYMTYPE, bait["neighbour"]
            tar.addfile(member)
            fine = tarfile.TarInfo("parsed.txt")
            fine.size = 4
            tar.addfile(fine, io.BytesIO(b"fine"))
        return stream.getvalue()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if kind == "zip_zeros":
            with archive.open("zeros", "w", force_zip64=True) as member_file:
                for _ in range(told >> 24):
                    member_file.write(bytes(1 << 24))
        else:
            for path, content in told.items():
                archive.writestr(path.replace("{neighbour}", "honest0"), content)
    return stream.getvalue()


def digest(folder: Path) -> str:
    """What a folder holds, without following links."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(f"{path}\0{path.lstat().st_mode}\0{path.lstat().st_size}\0".encode())
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 30:
            total.update(path.read_bytes())
    return total.hexdigest()


def test_there_are_enough_of_them() -> None:
    assert len({student(attack) for attack in EVERY}) == len(EVERY) >= 130
    assert {student(attack) for attack in SCRIPTS} >= QUICK


@pytest.mark.parametrize("attack", cases(EVERY))
def test_an_attack_gets_what_is_due(graded: Graded, attack: dict[str, Any]) -> None:
    rows = graded.verdicts[student(attack)]
    assert sorted(rows) == sorted([*TESTS, "test_secret"]), "every check has exactly one row"
    assert "pending" not in rows.values()
    wanted = attack.get("verdict", attack.get("answer", "failed"))
    if wanted != "any":
        assert rows["test_answer"] == wanted
    assert rows["test_parser"] == attack.get("parser", "passed")


@pytest.mark.parametrize("attack", cases([attack for attack in SCRIPTS if "note" in attack]))
def test_the_teacher_is_told_what_it_did(graded: Graded, attack: dict[str, Any]) -> None:
    shown = graded.a_class("show", student(attack)).stdout
    assert attack["note"] in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize("name", HONEST_STUDENTS)
def test_honest_neighbours_are_untouched(graded: Graded, name: str) -> None:
    assert graded.verdicts[name] == dict.fromkeys([*TESTS, "test_secret"], "passed")


def test_nothing_outside_was_changed(graded: Graded) -> None:
    assert {path: digest(Path(path)) for path in graded.outside} == graded.outside


def test_nobody_was_added_or_lost(graded: Graded) -> None:
    assert set(graded.verdicts) == {*HONEST_STUDENTS, *map(student, graded.attacks)}


def test_no_process_is_left(graded: Graded) -> None:
    # Sandboxed processes are the only ones here in a PID namespace that is not this process's own.
    own = Path("/proc/self/ns/pid").stat().st_ino
    left = []
    for process in Path("/proc").iterdir():
        try:
            line = (process / "cmdline").read_bytes()
            if process.name.isdigit() and (process / "ns" / "pid").stat().st_ino != own and b"/submission" in line:
                left.append(line)
        except OSError:
            continue
    assert left == []
