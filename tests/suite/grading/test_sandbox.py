"""The sandbox as a caller sees it: outcomes, texts, the work folder, and refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trtverify.grading.sandbox import box, launch, orphans
from trtverify.grading.sandbox.launch import SandboxUnavailableError, Spec
from trtverify.grading.sandbox.limits import MIB, Breach, Limits
from trtverify.grading.sandbox.untrusted_text import Kept, escaped, shortened

pytestmark = pytest.mark.usefixtures("nothing_left")
SHORT = Limits(wall_seconds=10, memory_bytes=512 * MIB)


def sh(script: str, limits: Limits = SHORT) -> Spec:
    return Spec(["sh", "-c", script], limits=limits)


def test_a_program_runs_and_its_work_folder_outlives_it() -> None:
    with box.ran(sh("echo out; echo err >&2; mkdir d; echo made > d/file; exit 7")) as outcome:
        assert (outcome.exit_code, outcome.breach, outcome.stdout, outcome.stderr) == (7, None, "out\n", "err\n")
        fd = os.open("d/file", os.O_RDONLY, dir_fd=outcome.work)
        with os.fdopen(fd) as file:
            assert file.read() == "made\n"


def test_the_work_folder_is_gone_afterwards() -> None:
    with box.ran(sh("echo x > file")) as outcome:
        work = outcome.work
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.stat("file", dir_fd=work)


def test_read_only_folders_are_shown_and_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shown")
    tmp_path.chmod(0o755)
    spec = Spec(
        ["sh", "-c", "cat /data/file; echo x > /data/file || echo x > /data/new"], {tmp_path: "/data"}, limits=SHORT
    )
    with box.ran(spec) as outcome:
        assert outcome.stdout == "shown"
        assert outcome.exit_code != 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["with space", "tab\tand#hash", "line\nfeed", "back\\slash", "中文"])
def test_a_folder_with_a_strange_name_where_only_its_owner_can_go(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "closed" / name
    folder.mkdir(parents=True)
    (folder / "file").write_text("shown")
    (tmp_path / "closed").chmod(0o700)
    with box.ran(Spec(["cat", "/data/file"], {folder: "/data"}, limits=SHORT)) as outcome:
        assert outcome.stdout == "shown", outcome.stderr


def test_only_folders_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="only folders"), box.ran(Spec(["true"], {tmp_path / "file": "/data"})):
        pass


def test_a_killed_program_counts_as_the_shell_counts() -> None:
    with box.ran(sh("kill -SEGV $$")) as outcome:
        assert (outcome.exit_code, outcome.breach) == (128 + 11, None)


def test_a_daemon_does_not_outlive_its_parent_program() -> None:
    with box.ran(sh("setsid sh -c 'trap \"\" TERM HUP; sleep 987' & exit 0")) as outcome:
        assert (outcome.exit_code, outcome.breach) == (0, None)
        assert outcome.seconds < 5


def test_ten_gigabytes_of_output_end_the_program_and_are_not_kept() -> None:
    limits = Limits(wall_seconds=30, output_bytes=8 * MIB, kept_output_bytes=1024)
    with box.ran(sh("echo first; head -c 10G /dev/zero", limits)) as outcome:
        assert outcome.breach == Breach.OUTPUT
        assert outcome.stdout.startswith("first\n")
        assert "bytes left out" in outcome.stdout
        assert len(outcome.stdout) < 5 * 1024  # a NUL is shown as four characters


def test_two_sandboxes_do_not_share_a_process_limit() -> None:
    limits = Limits(wall_seconds=10, processes=20, memory_bytes=512 * MIB)
    forks = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait; echo all"
    with box.ran(sh(f"({forks}) && exit 0", limits)) as first:
        assert first.stdout == "all\n"
    code = (
        "import sys; from trtverify.grading.sandbox import box; from trtverify.grading.sandbox.launch import Spec\n"
        "from trtverify.grading.sandbox.limits import Limits\n"
        f"with box.ran(Spec(['sh', '-c', {forks!r}], limits=Limits(processes=20))) as o: print(o.stdout + o.stderr)"
    )
    root = Path(__file__).resolve().parents[3]
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root, text=True) for _ in "12"]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["all", "all"]


def test_without_bubblewrap_it_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    launch.bwrap_version.cache_clear()
    try:
        with pytest.raises(SandboxUnavailableError, match="apt-get install bubblewrap"), box.ran(sh("true")):
            pytest.fail("it ran something")
    finally:
        monkeypatch.undo()
        launch.bwrap_version.cache_clear()


def test_a_bubblewrap_that_fails_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_walls", lambda version: ["--no-such-wall"])
    with pytest.raises(SandboxUnavailableError, match="no-such-wall"), box.ran(sh("true")):
        pytest.fail("it ran something")


def test_a_sandbox_without_its_bubblewrap_is_ended_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with launch.started(sh("sleep 60")) as (process, info):
        os.read(info, 4096)  # it stands
        assert orphans.end() == 0
    walls = launch._walls
    without = lambda version: [wall for wall in walls(version) if wall != "--die-with-parent"]  # noqa: E731
    monkeypatch.setattr(launch, "_walls", without)
    with launch.started(sh("sleep 60")) as (process, info):
        os.read(info, 4096)
        process.kill()
        process.wait()
        assert orphans.end() >= 1  # the first sandbox may still be dying


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        (b"plain \xe4\xb8\xad\n\ttext", "plain 中\n\ttext"),
        (b"\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"over\rwritten\r\n", "over\\rwritten\n"),
        ("right\u202eto left\u200b".encode(), "right\\u202eto left\\u200b"),
        (b"\xc2\x9b31m", "\\x9b31m"),
        ("\ud800", "\\ud800"),
    ],
)
def test_text_is_safe_to_print(raw: bytes | str, safe: str) -> None:
    assert escaped(raw) == safe


def test_a_kept_stream_is_bounded_and_keeps_both_ends() -> None:
    kept = Kept(10)
    for block in (b"ab", b"cdefgh", b"x" * 1000, b"yz"):
        kept.add(block)
    assert kept.text() == "abcde\n[… 1,000 bytes left out …]\nxxxyz"
    whole = Kept(10)
    whole.add(b"0123456789")
    assert whole.text() == "0123456789"


def test_a_shortened_text_says_what_is_missing() -> None:
    assert shortened("a" * 10, 10) == "a" * 10
    assert shortened("a" * 5 + "b" * 7, 10) == "aaaaa [… 2 characters left out …] bbbbb"
