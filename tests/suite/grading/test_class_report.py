"""The class report without a browser: its totals are the exports', and a student's page keeps every secret."""

from __future__ import annotations

import base64
import csv
import dataclasses
import errno
import hashlib
import json
import re
import urllib.parse
from collections.abc import Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.suite.grading.sample_class import sample_class
from tests.suite.grading.test_exports import ANN, ZOE, row
from tests.suite.grading.toy_class import Class
from trtverify.fixtures.words.columns import finding_parts
from trtverify.fixtures.words.messages import use_language
from trtverify.fixtures.words.verdict import Finding
from trtverify.grading import exports
from trtverify.grading.grade import Grade, GradedRow
from trtverify.grading.pages import class_pages, class_report

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"{{ 7*7 }}\u202egnp\x00"


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    use_language("en")


class Elements(HTMLParser):
    """Tags with their attributes, the texts, and the rows of tables as lists of texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()

    @property
    def text(self) -> str:
        """All that a person reads."""
        return " ".join(" ".join(self.words).split())


def failed(message: str, **more: object) -> GradedRow:
    """A failed check that says this."""
    return dataclasses.replace(row("test_x", "failed", "1.00"), message=message, detail=message, **more)  # type: ignore[arg-type]


def test_totals_are_the_exports(tmp_path: Path) -> None:
    """On the overview and on every student's page stands what the table and Gradescope are given."""
    results = [ANN, ZOE, *sample_class(20)]
    overview = Elements(class_pages.write(results, tmp_path / "report"))
    exports.FORMATS["csv"](results, tmp_path / "csv")
    exports.FORMATS["gradescope"](results, tmp_path / "gradescope")
    shown = {cells[0]: cells for cells in overview.rows if cells[0] in {result.student for result in results}}
    with (tmp_path / "csv" / "class.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(shown) == len(results)
    for line in table:
        cells = shown[line["student"]]
        assert cells[1:3] == [line["earned"], line["possible"]]
        labs = [line[name] for name in ("lab1", "lab2", "lab3", "lab4", "lab5", "other")]
        assert [Decimal(cell) for cell in cells[4:10]] == [Decimal(value) for value in labs]
        assert cells[10] == (line["penalty"] if Decimal(line["penalty"]) else "–")
        page = Elements(tmp_path / "report" / "students" / f"{line['student']}.html")
        assert f"{line['student']} : {line['earned']} of {line['possible']} points" in page.text
        given = json.loads((tmp_path / "gradescope" / f"{line['student']}.json").read_text(encoding="utf-8"))
        assert float(line["earned"]) == given["score"]


def test_bars_count_every_student_once() -> None:
    """Whoever earned all there is stands in the last bar, whoever earned nothing in the first."""
    results = sample_class(50)
    for points in class_report.points(results):
        assert sum(count for _low, _high, count in points.bars()) == 50
        assert points.bars()[-1][1] == pytest.approx(float(points.most))
    ends = [
        Grade(name, (row("test_a", verdict, "8.00"),), {}, (), True)
        for name, verdict in zip("ab", ("passed", "failed"), strict=True)
    ]
    (points, _lab) = class_report.points(ends)
    assert [count for _low, _high, count in points.bars()] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_points_below_nothing_have_a_bar() -> None:
    """A penalty may exceed what was earned; no class is too small or too poor to be drawn."""
    poor = Grade("a", (row("test_a", "failed", "1.00"),), {"lab1": Decimal("0.50")}, (), True)
    (points, _lab) = class_report.points([poor])
    assert sum(count for _low, _high, count in points.bars()) == 1
    assert points.scale().low == -0.5
    (points, _lab) = class_report.points([ZOE])
    assert sum(count for _low, _high, count in points.bars()) == 1


def test_causes_are_counted_by_student() -> None:
    """What differs in its numbers alone is one cause; two failures of one student are one student."""
    noise = [str(Finding("at least 40 dB", f"{n}.5 dB", "compare")) for n in (3, 17)]
    rejected = "the submission could not be taken: it holds more than 5 members"
    results = [
        Grade("a", (failed(noise[0], test="t.py::test_a[x]"), failed(noise[1], test="t.py::test_a[y]")), {}, (), True),
        Grade("b", (failed(noise[1], test="t.py::test_b"), failed("boom\nline 2")), {}, (), True),
        Grade("c", (failed(rejected), row("test_y", "crash", "1.00"), row("test_z", "passed", "1.00")), {}, (), True),
    ]
    found = class_report.causes(results)
    assert (found[0].students, found[0].checks, found[0].tests) == (2, 3, ("t: test_a", "t: test_b"))
    assert (found[0].example.expected, found[0].example.look) == ("at least 40 dB", "compare")
    assert sorted(cause.example.text.partition("\n")[0] for cause in found[1:]) == ["boom", "expected: 1", rejected]
    two = (failed("FP16 fell back"), failed("FP32 fell back"), failed("layer_1 fell back"))
    assert len(class_report.causes([Grade("a", two, {}, (), True)])) == 3


def test_slowest_checks_are_first() -> None:
    """By their median; what took no time, as a rejected submission's checks, is left out."""
    times = {"a": (1.0, 9.0, 2.0), "b": (3.0, 3.0, 3.0), "c": (0.0, 0.0, 0.0)}
    results = [
        Grade(str(n), tuple(row(name, "passed", "1.00", seconds=took[n]) for name, took in times.items()), {}, (), True)
        for n in range(3)
    ]
    found = [
        (slow.test.rpartition("::")[2], slow.median, slow.longest, slow.together)
        for slow in class_report.slowest(results)
    ]
    assert found == [("b", 3.0, 3.0, 9.0), ("a", 2.0, 9.0, 12.0)]


@pytest.mark.parametrize("visibility", ["hidden", "after_due_date", "after_published"])
@pytest.mark.parametrize("verdict", ["failed", "crash", "not gradable", "inconclusive", "pending", "passed"])
def test_a_students_page_keeps_secrets(tmp_path: Path, visibility: str, verdict: str) -> None:
    """Of a check that is not shown, neither name nor message; of other students, nothing at all."""
    secret = row(
        "hidden check 1",
        verdict,
        "2.00",
        test="hidden/test_treasure.py::test_treasure",
        visibility=visibility,
        message="a few words",
        detail="expected: treasure\nfound:    none\nnext:     treasure island",
    )
    ann = dataclasses.replace(ANN, rows=(*ANN.rows, secret))
    class_pages.write([ann, Grade("zoe-secret", (), {}, ("zoe's note",), False)], tmp_path / "report")
    text = (tmp_path / "report" / "students" / "ann.html").read_text(encoding="utf-8")
    assert "hidden checks: 1" in text
    assert "hidden check 1" not in text
    assert "a few words" not in text
    for word in ("treasure", "zoe"):
        assert word not in text


def test_the_hint_stands_for_the_message(tmp_path: Path) -> None:
    """Where the rubric has a hint, the student reads that under "next", and not what the test said."""
    hinted = dataclasses.replace(failed("expected: a\nfound:    b\nnext:     c"), message="look at the learning rate")
    class_pages.write([Grade("ann", (hinted,), {}, (), True)], tmp_path / "report")
    page = Elements(tmp_path / "report" / "students" / "ann.html")
    assert "next look at the learning rate" in page.text
    assert "expected a" not in page.text


def _number(page: Path) -> str:
    return page.stem[-3:]


def test_no_string_becomes_markup(tmp_path: Path) -> None:
    """A class full of attacks has the very elements that a harmless one has."""
    attacked = class_pages.write(sample_class(8, HOSTILE), tmp_path / "attacked")
    harmless = class_pages.write(sample_class(8), tmp_path / "harmless")
    pairs = [(attacked, harmless)]
    students = [sorted((path.parent / "students").iterdir(), key=_number) for path in (attacked, harmless)]
    pairs += zip(*students, strict=True)
    assert len(pairs) == 9
    for one, other in pairs:
        found, wanted = Elements(one), Elements(other)
        assert [tag for tag, _attributes in found.tags] == [tag for tag, _attributes in wanted.tags]
        assert [sorted(attributes) for _tag, attributes in found.tags] == [sorted(a) for _tag, a in wanted.tags]
        shown = "".join(found.words)
        assert "<script>alert(1)" in shown
        assert not re.search("[\u202e\x00]", shown)


def test_only_the_overview_has_a_script_and_the_policy_names_it(tmp_path: Path) -> None:
    """Pages fetch nothing; the one script is allowed by its hash, and students' pages allow none."""
    overview = class_pages.write(sample_class(2, HOSTILE), tmp_path / "report")
    text = overview.read_text(encoding="utf-8")
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    for path in (overview, *(tmp_path / "report" / "students").iterdir()):
        tags = Elements(path).tags
        policy = next(a["content"] for tag, a in tags if tag == "meta" and "http-equiv" in a) or ""
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert (f"script-src 'sha256-{digest}'" in policy) == ("script-src" in policy) == (path == overview)
        assert [tag for tag, _attributes in tags].count("script") == (path == overview)
        for _tag, attributes in tags:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            assert (attributes.get("href") or "#").startswith(("#", "data:,", "students/"))


@pytest.mark.parametrize("name", ["a b#1?%41&<x>", "名" * 84, "-rf", "con", ".x"])
def test_every_name_has_its_page(tmp_path: Path, name: str) -> None:
    """Whatever a folder may be called, the link leads to the page, also on a file system's narrowest terms."""
    overview = class_pages.write([dataclasses.replace(ZOE, student=name)], tmp_path / "report")
    (link,) = [a["href"] for tag, a in Elements(overview).tags if tag == "a" and "students/" in (a["href"] or "")]
    assert name in Elements(overview.parent / urllib.parse.unquote(link or "")).text


def test_long_names_stay_apart(tmp_path: Path) -> None:
    """Two that begin alike do not share a page, nor two that differ only in capitals."""
    for names in (("x" * 240 + "1", "x" * 240 + "2"), ("zoe", "Zoe")):
        class_pages.write([dataclasses.replace(ZOE, student=name) for name in names], tmp_path / "report")
        pages = [path.name.casefold() for path in (tmp_path / "report" / "students").iterdir()]
        assert len(set(pages)) == 2


def test_run_and_export_write_it(a_class: Class) -> None:
    """After `run` and after `export` it is there, with those who are in the class now and nobody else."""
    a_class.hand_in("ann")
    gone = a_class.hand_in("bob", {"parsed.txt": b"wrong"})
    report = a_class.out / "report"
    assert f"report: {report / 'index.html'}" in a_class("run").stdout
    assert sorted(path.name for path in (report / "students").iterdir()) == ["ann.html", "bob.html"]
    assert "9.00 of 9.00 points" in Elements(report / "students" / "ann.html").text
    for path in (*gone.iterdir(), gone):
        path.rmdir() if path.is_dir() else path.unlink()
    a_class("run", "--labs", "lab1")
    assert [path.name for path in (report / "students").iterdir()] == ["ann.html"]
    (report / "index.html").unlink()
    a_class("export", "--format", "csv")
    assert not (report / "index.html").exists()
    a_class("export", "--lang=zh-TW")
    assert "班級報告" in Elements(report / "index.html").text
    assert not [path for path in a_class.out.iterdir() if path.name.startswith(".report")]


def test_a_report_that_cannot_be_written_is_said(a_class: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one message with what stands in the way; every verdict is there."""

    def full(*_arguments: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    a_class.hand_in("ann")
    monkeypatch.setattr(class_pages, "write", full)
    assert "the report cannot be written: [Errno 28] No space left" in a_class("run", status=2).stderr
    assert a_class("show", "ann").stdout.startswith("ann: 9.00 of 9.00 points")


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_findings_are_read_back_in_both_languages(language: str) -> None:
    """What was graded in one language is laid out in parts on a page in another."""
    use_language(language)
    said = str(Finding("a\n  b: c", "found: 1", "x"))
    use_language("en" if language == "zh-TW" else "zh-TW")
    assert finding_parts(said) == ("a\n  b: c", "found: 1", "x")
    assert finding_parts("AssertionError: expected: 1\nfound: 2") is None
