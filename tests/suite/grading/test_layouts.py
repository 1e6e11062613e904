"""Classes as platforms lay them out: whose each folder is, when it came, and what a roster makes of it."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import os
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import HONEST, Class
from trtverify.grading import commands, pupils
from trtverify.grading.store import Store, StoreError
from trtverify.grading.taking import archives, codes, layouts, roster
from trtverify.grading.taking.intake import RejectedError, Snapshots, UnreadableError
from trtverify.grading.taking.roster import Person

YAML = """---
submission_1001:
  :submitters:
  - :name: Ann Lee
    :sid: '0071'
    :email: ann@example.com
  :created_at: 2026-12-01 12:00:00.123456789 Z
  :score: 3.0
  :status: processed
  :results:
    tests:
    - name: ':email: eve@example.com'
      output: |
        :created_at: 1999-01-01 00:00:00 Z
submission_1002:
  :submitters:
  - :name: "\\u6797\\u6021\\u541b"
    :email: lin@example.com
  :created_at: 2026-12-02 20:00:00 +08:00
  :history:
  - :created_at: 2026-11-01 00:00:00 Z
"""


def files(folder: Path, *names: str) -> Path:
    """A folder with these files in it; a name that ends in / is a folder."""
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"x")
    return folder


def zipped(path: Path, **members: bytes) -> Path:
    """An archive of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def test_gradescopes_export(tmp_path: Path) -> None:
    """Names and times by the metadata, of which lines that earlier runs said are none."""
    files(tmp_path, "submission_1001/a", "submission_1002/a", "submission_9/a", "notes.rar")
    (tmp_path / "submission_metadata.yml").write_text(YAML)
    found, ignored = layouts.listed(tmp_path)
    assert [(entry.student, entry.source.name, entry.time) for entry in found] == [
        ("Ann Lee", "submission_1001", "gradescope"),
        ("林怡君", "submission_1002", "gradescope"),
    ]
    assert found[0].submitted == datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.timezone.utc).timestamp()
    assert found[1].submitted == datetime.datetime(2026, 12, 2, 12, tzinfo=datetime.timezone.utc).timestamp()
    assert found[0].keys == ("0071", "ann@example.com", "Ann Lee")
    assert ignored == ["notes.rar (a kind of archive that is not read)", "submission_9 (no submission's folder)"]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "\x00", "[" * 100_000])
def test_metadata_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "submission_metadata.yml").write_text(text)
    with pytest.raises(layouts.LayoutError, match=r"submission_metadata\.yml"):
        layouts.listed(tmp_path)


def test_moodles_folders(tmp_path: Path) -> None:
    """With and without a folder for each student; two of one name are told apart; texts are named, not graded."""
    files(
        tmp_path,
        "Ann Lee_3001_assignsubmission_file_/work.zip",
        "Ann Lee_3002_assignsubmission_file/lab1/",
        "林怡君_3003_assignsubmission_file_labs.zip",
        "林怡君_3003_assignsubmission_onlinetext_/text.html",
    )
    found, ignored = layouts.listed(tmp_path)
    assert {entry.student: entry.keys for entry in found} == {
        "Ann Lee_3001": ("3001", "Ann Lee"),
        "Ann Lee_3002": ("3002", "Ann Lee"),
        "林怡君": ("3003", "林怡君"),
    }
    assert ignored == ["林怡君_3003_assignsubmission_onlinetext_ (no submission's folder)"]


def test_canvas_files(tmp_path: Path) -> None:
    """An archive a student, or file by file; late ones and those handed in again."""
    files(
        tmp_path,
        "leeann_501_9001_work.zip",
        "linyichun_LATE_502_9002_resnet50.onnx",
        "linyichun_502_9003_resnet50.manifest-1.json",
        "linyichun_502_9004_evidence.zip",
    )
    found, ignored = layouts.listed(tmp_path)
    assert [(entry.student, entry.source.name, entry.keys[0]) for entry in found] == [
        ("leeann", "leeann_501_9001_work.zip", "501"),
        ("linyichun", "linyichun_502_*", "502"),
    ]
    assert set(layouts.files_of(found[1].source) or {}) == {"resnet50.onnx", "resnet50.manifest.json", "evidence.zip"}
    assert ignored == []
    files(tmp_path, "readme.txt")
    assert layouts.listed(tmp_path)[1], "with a file of another name it is no download of Canvas's"


def test_names_in_big5_and_impossible_dates_in_platforms_layouts(tmp_path: Path) -> None:
    """王小明 of Moodle, and 許功蓋 of Canvas, each of whose characters ends in a byte that is ASCII."""
    moodle, canvas = tmp_path / "moodle", tmp_path / "canvas"
    for folder, name in ((moodle, "王小明_7_assignsubmission_file_"), (canvas, "許功蓋_8_9_answer.json")):
        folder.mkdir()
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name.encode("cp950")))
        path.mkdir() if folder == moodle else path.write_bytes(b"x")
        os.utime(path, (-5, -5))
    for folder, student in ((moodle, "王小明"), (canvas, "許功蓋")):
        handed_in = pupils.listed(folder, None, None, "given")
        (found,) = handed_in.students
        assert (found.student, found.submitted) == (student, 0.0)
        assert len(found.notes) == 2
        (timed,) = pupils.listed(folder, None, "2026-12-24T00:00:00+00:00", "given").students
        assert len(timed.notes) == 1, "a date that does not count is no matter"
    snapshot = archives.take(Path(found.source), Snapshots(tmp_path / "snapshots"))
    assert [path.name for path in snapshot.path.iterdir()] == ["answer.json"]


def test_results_and_litter_are_nobodys_in_any_layout(tmp_path: Path) -> None:
    folder = files(tmp_path / "class", "submission_1001/a", "results/results.sqlite", ".DS_Store", ".env")
    (folder / "submission_metadata.yml").write_text(YAML)
    (folder / "eve").symlink_to("/")
    found, ignored = layouts.listed(folder, folder / "results")
    assert ([entry.student for entry in found], ignored) == (["Ann Lee"], [".env (hidden)", "eve (a link)"])
    (folder / "submission_metadata.yml").unlink()
    found, ignored = layouts.listed(folder, folder / "results")
    assert ([entry.student for entry in found], ignored) == (["eve", "submission_1001"], [".env (hidden)"])


def test_files_of_canvas_that_went_away_are_no_empty_submission(tmp_path: Path) -> None:
    folder = files(tmp_path / "class", "ann_1_2_answer.json", "ann_1_3_parsed.txt")
    ((ann,), _ignored) = layouts.listed(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(UnreadableError):
        archives.take(ann.source, Snapshots(tmp_path / "snapshots"))
    folder.rmdir()
    with pytest.raises(UnreadableError):
        archives.take(ann.source, Snapshots(tmp_path / "snapshots"))


def test_an_archive_that_is_a_link_is_the_students_doing(tmp_path: Path) -> None:
    folder = files(tmp_path / "ann", "work/").joinpath("work")
    (folder / "work.zip").symlink_to("/etc/passwd")
    with pytest.raises(RejectedError, match="a link"):
        archives.take(folder, Snapshots(tmp_path / "snapshots"))


def test_a_student_of_canvas_is_taken_file_by_file(tmp_path: Path) -> None:
    files(tmp_path / "class", "ann_1_2_answer.json", "ann_1_3_parsed-2.txt", "bob_2_4_answer.json")
    found, _ignored = layouts.listed(tmp_path / "class")
    snapshot = archives.take(found[0].source, Snapshots(tmp_path / "snapshots"))
    assert sorted(path.name for path in snapshot.path.iterdir()) == ["answer.json", "parsed.txt"]


@pytest.mark.usefixtures("bwrap")
def test_the_archive_in_a_students_folder(tmp_path: Path) -> None:
    """It is what was handed in; evidence beside it comes along, and what else lies there is named."""
    folder = tmp_path / "Ann Lee_3001_assignsubmission_file_"
    zipped(folder / "work.zip", resnet50__onnx=b"model", parsed__txt=b"fine")
    files(folder, "evidence.zip", "report.pdf", ".DS_Store")
    snapshot = archives.take(folder, Snapshots(tmp_path / "snapshots"))
    assert sorted(path.name for path in snapshot.path.iterdir()) == ["evidence.zip", "parsed.txt", "resnet50.onnx"]
    assert snapshot.left_out == ("report.pdf: lies beside the archive",)


def test_an_archive_beside_work_is_named_and_not_unpacked(tmp_path: Path) -> None:
    zipped(files(tmp_path / "ann", "resnet50.onnx") / "backup.zip", resnet50__onnx=b"other")
    snapshot = archives.take(tmp_path / "ann", Snapshots(tmp_path / "snapshots"))
    assert snapshot.left_out == ("backup.zip: an archive beside other files is not unpacked",)
    assert (snapshot.path / "resnet50.onnx").read_bytes() == b"x"


def test_a_clone_and_its_pointers(tmp_path: Path) -> None:
    """The work lies in `submission`; what Git LFS did not bring is called a pointer."""
    folder = files(tmp_path / "labs-ann", "README.md", ".git/config", ".github/workflows/classroom.yml")
    files(folder / "submission", "parsed.txt")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 102000000\n"
    (folder / "submission" / "resnet50.onnx").write_text(pointer)
    snapshot = archives.take(folder, Snapshots(tmp_path / "snapshots"))
    assert [path.name for path in snapshot.path.iterdir()] == ["parsed.txt"]
    assert "resnet50.onnx: a Git LFS pointer, not the file itself" in snapshot.left_out[0]


def test_a_maze_of_folders_is_not_entered(tmp_path: Path) -> None:
    """Packaging is a few folders; each costs a descriptor."""
    deep = tmp_path / "ann"
    for _level in range(7):
        deep = deep / "x"
    files(deep, "answer.json")
    snapshot = archives.take(tmp_path / "ann", Snapshots(tmp_path / "snapshots"))
    assert (snapshot.path / "x" / "x" / "x" / "x" / "answer.json").is_file()


CANVAS = "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Lab (77)\n    Points Possible,,,,,100\n"
CANVAS += '"Lee, Ann",501,S71,ann,A,\n林怡君,502,S72,lin,B,\n'
MOODLE = "Identifier,Full name,Email address,Grade,Last modified (submission)\n"
MOODLE += 'Participant 3001,Ann Lee,ann@example.com,,"2026-12-01T20:00:00+08:00"\nParticipant 3003,林怡君,lin@e.tw,,-\n'
GITHUB = "identifier,github_username,github_id,name\nann@example.com,octo-ann,1,\nlin,lin-gh,2,\n"
GRADESCOPE = "First Name,Last Name,SID,Email,Section\nAnn,Lee,0071,ann@example.com,A\n,林怡君,0072,lin@example.com,B\n"


def people(tmp_path: Path, text: str) -> list[Person]:
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    return roster.load(tmp_path / "roster.csv")


@pytest.mark.parametrize(
    ("text", "ann", "lin"),
    [
        (CANVAS, ["501", "Ann Lee", "leeann", "S71", "ann"], ["502", "林怡君"]),
        (MOODLE, ["3001", "Ann Lee", "ann@example.com", "ann"], ["3003", "林怡君"]),
        (GITHUB, ["labs-octo-ann", "octo-ann"], ["labs-lin-gh"]),
        (GRADESCOPE, ["0071", "ann@example.com", "Ann Lee"], ["0072", "林怡君"]),
        (GRADESCOPE.replace(",", ";"), ["0071"], ["0072"]),
    ],
)
def test_rosters_of_platforms(tmp_path: Path, text: str, ann: list[str], lin: list[str]) -> None:
    """Each in its own columns, and whatever the platform's own layout knows a student by."""
    known = people(tmp_path, text)
    assert len(known) == 2
    for key in ann:
        found, unmatched, absent = roster.matched({"a": [key], "z": ["nobody"]}, known)
        assert (found, unmatched, len(absent)) == ({"a": known[0]}, ["z"], 1), key
    for key in lin:
        assert roster.matched({"l": [key]}, known)[0] == {"l": known[1]}, key


def test_whom_two_lines_fit_is_nobody(tmp_path: Path) -> None:
    known = people(tmp_path, "Name,ID\nAnn Lee,1\nAnn Lee,2\n")
    assert roster.matched({"a": ["Ann Lee"]}, known)[1] == ["a"]
    assert roster.matched({"a": ["2", "Ann Lee"]}, known)[0] == {"a": known[1]}


@pytest.mark.parametrize("data", [b"\xff\xfe", b"", b"Grade,Comment\n1,2\n", b'Student,ID\n"a', b"PK\x03\x04"])
def test_a_roster_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "roster.csv").write_bytes(data)
    with pytest.raises(roster.RosterError, match=r"roster\.csv"):
        roster.load(tmp_path / "roster.csv")


def test_times_have_an_order(tmp_path: Path) -> None:
    """What was given wins over the roster's time, that over the platform's and the file's."""
    folder = files(tmp_path / "class", "Ann Lee_3001_assignsubmission_file_/a", "bob/a")
    os.utime(folder / "bob", (1_000_000_000, 1_000_000_000))
    people(tmp_path, MOODLE)
    found = pupils.listed(folder, str(tmp_path / "roster.csv"), None, "given")
    assert [(student.submitted, found.people[student.student]["time"]) for student in found.students] == [
        (datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.timezone.utc).timestamp(), "roster"),
        (1_000_000_000.0, "file"),
    ]
    assert set(found.said) == {"the roster has nobody for bob", "nothing was handed in by 林怡君"}
    given = pupils.listed(folder, None, "2026-12-24T00:00:00+00:00", "given")
    assert {kept["time"] for kept in given.people.values()} == {"given"}


def test_one_person_twice_is_refused(tmp_path: Path) -> None:
    folder = files(tmp_path / "class", "ann/a", "501/a")
    people(tmp_path, CANVAS)
    with pytest.raises(StoreError, match="501 and ann are both of Lee, Ann"):
        pupils.listed(folder, str(tmp_path / "roster.csv"), None, "given")


@pytest.mark.parametrize(
    ("said", "due", "total"),
    [
        ({"assignment": {"due_date": "2018-07-31T23:00:00.000000-07:00", "total_points": "20.0"}}, 31, "20.00"),
        ({"assignment": {"due_date": None, "total_points": "NaN"}}, None, None),
        ({"assignment": []}, None, None),
        (
            {
                "assignment": {"due_date": "2018-07-31T23:00:00-07:00"},
                "users": [{"assignment": {"due_date": "2018-07-09T23:00:00-07:00"}}, 7],
            },
            9,
            None,
        ),
    ],
)
def test_gradescopes_metadata(tmp_path: Path, said: dict[str, object], due: int | None, total: str | None) -> None:
    path = tmp_path / "submission_metadata.json"
    path.write_text(json.dumps({"created_at": "2018-07-01T14:22:32.365935-07:00", **said}))
    found = layouts.assignment(path)
    assert found.submitted.isoformat() == "2018-07-01T14:22:32-07:00"
    assert (found.due.day if found.due else None, found.total) == (due, None if total is None else Decimal(total))
    assert ("is no number of points" in found.odd) == ("NaN" in path.read_text())
    path.write_text('{"created_at": 7}')
    with pytest.raises(layouts.LayoutError, match="created_at"):
        layouts.assignment(path)


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [
        ("utf-8", ","),
        ("utf-8-sig", "\t"),
        ("utf-16", "\t"),
        ("utf-16", ","),
        ("utf-16-le", "\t"),
        ("cp950", ","),
        ("cp950", ";"),
    ],
)
def test_a_roster_as_excel_saves_it(tmp_path: Path, encoding: str, delimiter: str) -> None:
    text = "學號,姓名,電子郵件\r\nB10901001,王小明,a@ntu.tw\r\n".replace(",", delimiter)
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    (tmp_path / "roster.csv").write_bytes(mark + text.encode(encoding))
    (person,) = roster.load(tmp_path / "roster.csv")
    assert (person.idnumber, person.name, person.email) == ("B10901001", "王小明", "a@ntu.tw")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("学号,姓名\n1,王\n".encode("gbk"), "no CSV in UTF-8"),
        ("id,name\n1,王小明\n".encode("cp950"), "no CSV in UTF-8"),  # of which country cannot be told
        (b"PK\x03\x04" + bytes(99), "a workbook of Excel's"),
        (b"\xd0\xcf\x11\xe0" + bytes(99), "a workbook of Excel's"),
    ],
)
def test_a_roster_that_is_no_table_is_called_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "roster.csv").write_bytes(content)
    with pytest.raises(roster.RosterError, match=said):
        roster.load(tmp_path / "roster.csv")


def test_two_people_of_one_number_are_said(tmp_path: Path) -> None:
    folder = files(tmp_path / "class", "Ann/a", "Bo/a")
    people(tmp_path, "name,id,email\nAnn,7,ann@x.edu\nBo,7,bo@x.edu\nAnn,8,ann@x.edu\n")
    said = pupils.listed(folder, str(tmp_path / "roster.csv"), None, "given").said
    assert [note for note in said if "gives" in note] == [
        "the roster gives 7 to Ann and to Bo: whose it is cannot be told by it"
    ]


def test_codes_are_a_persons_and_a_secrets() -> None:
    """The same by whatever folder, another for everybody else and with another secret."""
    ann = Person(name="Ann Lee", idnumber="0071", email="ann@example.com")
    own = codes.code(b"s" * 16, codes.identity("folder 1", ann))
    assert own == codes.code(b"s" * 16, codes.identity("folder 2", ann))
    assert own != codes.code(b"t" * 16, codes.identity("folder 1", ann))
    assert own != codes.code(b"s" * 16, codes.identity("folder 1", None))
    assert len(own) == 24


def test_a_class_of_moodles_with_roster_and_challenge(a_class: Class, tmp_path: Path) -> None:
    """From the platform's folders to its gradebook; whose content is equal is still graded with a code of their own."""
    members = {"answer__json": json.dumps(HONEST).encode(), "parsed__txt": b"fine"}
    for name in ("Ann Lee_3001", "林怡君_3003"):
        zipped(a_class.submissions / f"{name}_assignsubmission_file_" / "work.zip", **members)
    files(a_class.submissions, "labs.rar")
    people(tmp_path, MOODLE)
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    options = ("--roster", str(tmp_path / "roster.csv"), "--challenge", str(tmp_path / "secret"))
    assert "note: not graded: labs.rar" in a_class("run", *options, "--scale", "100").stderr
    assert set(a_class.verdicts()) == {"Ann Lee", "林怡君"}
    snapshots = list((a_class.out / "snapshots").iterdir())
    given = {(path / codes.FILE).read_text().strip() for path in snapshots}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert commands.main(["codes", *options, "a student whom no roster has"]) == 0
    lines = (line.partition("  ") for line in printed.getvalue().splitlines())
    said = {name: code for code, _space, name in lines}
    assert {said["Ann Lee"], said["林怡君"]} == given
    assert len(snapshots) == 2
    assert len(said) == 3
    a_class("export")
    table = (a_class.out / "exports" / "moodle" / "gradebook.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [(row["Identifier"], row["Email address"], row["TensorRT labs"]) for row in rows] == [
        ("Participant 3001", "ann@example.com", "100.00"),
        ("Participant 3003", "lin@e.tw", "100.00"),
    ]


def test_what_is_known_of_the_class_stays(a_class: Class, tmp_path: Path) -> None:
    """Roster, secret, scale and time of the first run hold in the next; grading one again changes nobody else."""
    for name in ("ann", "lin"):
        a_class.hand_in(name)
    people(tmp_path, CANVAS)
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    options = ("--roster", str(tmp_path / "roster.csv"), "--challenge", str(tmp_path / "secret"), "--scale", "50")
    a_class("run", *options, "--submitted", "2026-12-01T20:00:00+00:00")
    said = a_class("run").stderr
    assert "when these results were started" not in said
    with contextlib.closing(Store(a_class.out)) as store:
        before = json.loads(store.setting("people"))
    assert before["ann"] == {**before["ann"], "time": "given", "id": "501"}
    (tmp_path / "roster.csv").write_text(CANVAS.replace("501", "601").replace("502", "602"), encoding="utf-8")
    a_class("regrade", "ann")
    with contextlib.closing(Store(a_class.out)) as store:
        after = json.loads(store.setting("people"))
    assert (after["ann"]["id"], after["lin"]) == ("601", before["lin"])
    assert "lin: 50.00 of 50.00 points" in a_class("show", "lin").stdout
