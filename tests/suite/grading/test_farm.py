"""Grading on a Dask cluster: the same rows as on one machine, whatever happens to workers and scheduler."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.suite.grading.farm_cluster import Cluster, certificate
from tests.suite.grading.test_kills import EXPECTED, fill
from tests.suite.grading.toy_class import HONEST, REPOSITORY, Class

pytest.importorskip("distributed", reason="pip install -r requirements-grading.txt")


@pytest.fixture
def cluster(tmp_path: Path, nothing_left: None) -> Iterator[Cluster]:
    """A scheduler, and no worker yet."""
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.scheduler()
        yield cluster
    finally:
        cluster.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sandboxes(parent: int) -> list[int]:
    """The bubblewraps that a process started, or the programs that become one."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == parent and stat[0] != "Z" and b"bwrap" in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
    return found


def finished(grader: subprocess.Popen[str], status: int = 0) -> str:
    """What a grader said on stderr; it must end with this status."""
    said = grader.communicate(timeout=120)[1]
    assert grader.returncode == status, said
    return said


def sleepers(a_class: Class, count: int, seconds: float) -> dict[str, dict[str, str]]:
    """Different submissions whose check takes this long, and what they must get."""
    for number in range(count):
        files = {"answer.json": {**HONEST, "n": number}, "parsed.txt": f"sleep {seconds}".encode()}
        a_class.hand_in(f"s{number}", files)
    return {f"s{number}": EXPECTED for number in range(count)}


def test_a_cluster_gives_the_rows_of_one_machine(a_class: Class, cluster: Cluster, tmp_path: Path) -> None:
    due = fill(a_class)
    (a_class.submissions / "eve.zip").write_bytes(b"no archive")
    cluster.worker()
    cluster.worker()
    with a_class.started("run", "--scheduler", cluster.address) as grader:
        finished(grader)
    on_the_farm = a_class.verdicts()
    with contextlib.closing(sqlite3.connect(a_class.out / "results.sqlite")) as db:
        made = db.execute("SELECT artifacts FROM made WHERE artifacts != digest").fetchall()
    assert len(made) == 1
    assert (a_class.out / "snapshots" / made[0][0]).is_dir()  # what the script made, for whoever grades it next
    assert {student: rows for student, rows in on_the_farm.items() if student != "eve"} == due
    a_class("export", "--format", "csv")
    totals = (a_class.out / "exports" / "csv" / "class.csv").read_text()
    a_class.out = tmp_path / "local"
    a_class("run")
    assert a_class.verdicts() == on_the_farm
    a_class("export", "--format", "csv")
    assert (a_class.out / "exports" / "csv" / "class.csv").read_text() == totals


def test_a_worker_killed_in_the_middle_loses_nothing(a_class: Class, cluster: Cluster) -> None:
    due = sleepers(a_class, 4, 1.0)
    workers = [cluster.worker(), cluster.worker()]
    with a_class.started("run", "--scheduler", cluster.address) as grader:
        until(lambda: bool(sandboxes(workers[0].pid)))
        workers[0].kill()
        finished(grader)
    assert a_class.verdicts() == due


def test_a_partitioned_worker_loses_nothing(a_class: Class, tmp_path: Path) -> None:
    due = sleepers(a_class, 3, 1.0)
    (tmp_path / "cluster").mkdir()
    # Dask waits five minutes for a silent worker.
    with contextlib.closing(
        Cluster(tmp_path / "cluster", {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s"})
    ) as cluster:
        cluster.scheduler()
        workers = [cluster.worker(), cluster.worker()]
        with a_class.started("run", "--scheduler", cluster.address) as grader:
            until(lambda: bool(sandboxes(workers[0].pid)))
            workers[0].send_signal(signal.SIGSTOP)
            finished(grader)
            assert workers[0].poll() is None
    assert a_class.verdicts() == due


def test_the_only_worker_dies_and_another_takes_over(a_class: Class, cluster: Cluster) -> None:
    due = sleepers(a_class, 2, 1.0)
    worker = cluster.worker()
    with a_class.started("run", "--scheduler", cluster.address) as grader:
        until(lambda: bool(sandboxes(worker.pid)))
        worker.kill()
        worker.wait()
        cluster.worker()
        finished(grader)
    assert a_class.verdicts() == due


def test_a_scheduler_that_dies_ends_the_run_and_resume_completes_it(a_class: Class, tmp_path: Path) -> None:
    due = sleepers(a_class, 3, 1.0)
    (tmp_path / "cluster").mkdir()
    with contextlib.closing(Cluster(tmp_path / "cluster")) as cluster:
        scheduler = cluster.scheduler()
        cluster.worker()
        with a_class.started("run", "--scheduler", cluster.address) as grader:
            until(lambda: any("passed" in rows.values() for rows in a_class.verdicts().values()))
            scheduler.kill()
            said = finished(grader, 2)
        assert "resume" in said
        assert len(said.strip().splitlines()) == 1, said
        before = a_class.verdicts()
        assert any("pending" in rows.values() for rows in before.values())
        cluster.scheduler()
        cluster.worker()
        with a_class.started("resume", "--scheduler", cluster.address) as grader:
            finished(grader)
    assert a_class.verdicts() == due


def test_no_scheduler_is_one_message(a_class: Class) -> None:
    a_class.hand_in("ann")
    with a_class.started("run", "--scheduler", "tcp://127.0.0.1:9") as grader:
        said = finished(grader, 2)
    assert "there is no scheduler at tcp://127.0.0.1:9" in said
    assert len(said.strip().splitlines()) == 1, said
    assert "tcp://HOST:PORT" in refused_address(a_class)


def refused_address(a_class: Class) -> str:
    with a_class.started("run", "--scheduler", "teacher") as grader:
        return finished(grader, 2)


def test_without_dask_its_command_is_said(a_class: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    a_class.hand_in("ann")
    monkeypatch.setitem(sys.modules, "distributed", None)
    said = a_class("run", "--scheduler", "tcp://127.0.0.1:9", status=2).stderr
    assert "pip install -r requirements-grading.txt" in said


def test_dask_is_imported_by_those_who_ask_for_it() -> None:
    code = "import sys, grading.commands; print([name for name in sys.modules if name in ('dask', 'distributed')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_proves_its_walls_or_grades_nothing(a_class: Class, cluster: Cluster, tmp_path: Path) -> None:
    due = sleepers(a_class, 1, 0)
    without_bwrap = tmp_path / "bin"
    without_bwrap.mkdir()
    cluster.worker(proved=True, path=str(without_bwrap))
    with a_class.started("run", "--scheduler", cluster.address) as grader:
        said = finished(grader, 3)
    assert "grades nothing: bubblewrap is missing" in said
    assert set(a_class.verdicts()["s0"].values()) == {"pending"}
    cluster.worker(proved=True)
    with a_class.started("resume", "--scheduler", cluster.address) as grader:
        said = finished(grader)
    assert "grades nothing: bubblewrap is missing" in said
    assert a_class.verdicts() == due


def test_another_version_of_the_grader_grades_nothing(
    a_class: Class, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trtverify.grading.farm import hands

    a_class.hand_in("ann")
    cluster.worker()
    monkeypatch.setattr(hands, "version", lambda: "another")
    assert (
        "bring its copy of this repository up to date"
        in a_class("run", "--scheduler", cluster.address, status=3).stderr
    )


MEASURES = """
import time, pytest
def test_measures():
    begun = time.monotonic()
    time.sleep(2.5)
    pytest.fail(f"{begun} {time.monotonic()}", pytrace=False)
"""


@pytest.fixture
def measured(a_class: Class, tmp_path: Path) -> Class:
    """Three submissions that a hidden test measures, for which it needs the GPU."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "test_hidden.py").write_text(MEASURES)
    (tmp_path / "rubric.toml").write_text('[[tests]]\nmatch = "test_measures"\nresource = "GPU"\n')
    (tmp_path / "free.toml").write_text("")
    for number in range(3):
        a_class.hand_in(f"s{number}", {"answer.json": {**HONEST, "n": number}, "parsed.txt": b"fine"})
    return a_class


def run_measured(measured: Class, rubric: str) -> list[str]:
    folder = measured.submissions.parent
    return ["run", "--hidden-tests", str(folder / "hidden"), "--rubric", str(folder / rubric)]


def overlaps(measured: Class) -> int:
    """How many pairs of measurements ran at the same time."""
    with contextlib.closing(sqlite3.connect(measured.out / "results.sqlite")) as db:
        rows = db.execute("SELECT verdict, message FROM results WHERE test LIKE '%test_measures'").fetchall()
    assert [verdict for verdict, _ in rows] == ["failed"] * 3
    times = sorted(tuple(map(float, message.splitlines()[0].split()[-2:])) for _, message in rows)
    return sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(("rubric", "together"), [("rubric.toml", False), ("free.toml", True)])
def test_one_measurement_at_a_time_on_a_gpu(measured: Class, cluster: Cluster, rubric: str, together: bool) -> None:
    cluster.worker("--nthreads", "3", "--resources", "GPU=1")
    with measured.started(*run_measured(measured, rubric), "--scheduler", cluster.address) as grader:
        finished(grader)
    assert (overlaps(measured) > 0) == together


@pytest.mark.parametrize(("rubric", "together"), [("rubric.toml", False), ("free.toml", True)])
def test_one_measurement_at_a_time_on_this_machine(measured: Class, rubric: str, together: bool) -> None:
    measured(*run_measured(measured, rubric), "--workers", "3")
    assert (overlaps(measured) > 0) == together


def test_a_resource_that_no_worker_has_is_said_and_the_rest_is_graded(
    measured: Class, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trtverify.grading.farm import hands

    monkeypatch.setattr(hands, "_PATIENCE_SECONDS", 2.0)
    cluster.worker("--resources", "JETSON_ORIN_NANO=1")
    said = measured(*run_measured(measured, "rubric.toml"), "--scheduler", cluster.address, status=2).stderr
    assert "with GPU for 2 s" in said
    for rows in measured.verdicts().values():
        assert {test for test, verdict in rows.items() if verdict == "pending"} == {"test_measures"}
    cluster.worker("--resources", "GPU=1")
    measured("resume", "--scheduler", cluster.address)
    assert overlaps(measured) == 0


def test_equal_content_is_sent_and_graded_once(a_class: Class, cluster: Cluster) -> None:
    for number in range(5):
        a_class.hand_in(f"s{number}")
    cluster.worker()
    with a_class.started("run", "--scheduler", cluster.address) as grader:
        finished(grader)
    assert a_class.verdicts() == dict.fromkeys((f"s{number}" for number in range(5)), EXPECTED)
    assert len(cluster.kept()) == 2  # the tests, and one submission


def test_with_certificates_only_who_has_one_takes_part(
    a_class: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = sleepers(a_class, 1, 0)
    (tmp_path / "cluster").mkdir()
    pem = str(certificate(tmp_path))
    known = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": pem, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        known |= {f"DASK_DISTRIBUTED__COMM__TLS__{role}__{part}": pem for part in ("CERT", "KEY")}
    with contextlib.closing(Cluster(tmp_path / "cluster", known)) as cluster:
        cluster.scheduler("--protocol", "tls")
        assert cluster.address.startswith("tls://")
        cluster.worker()
        with a_class.started("run", "--scheduler", cluster.address) as grader:
            assert "there is no scheduler at tls://" in finished(grader, 2)
        for name, value in known.items():
            monkeypatch.setenv(name, value)
        with a_class.started("resume", "--scheduler", cluster.address) as grader:
            finished(grader)
    assert a_class.verdicts() == due
