"""The HTML report without a browser: its numbers, its scales, and that no string of a student's becomes markup."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import statistics
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.suite.sample_run import HOSTILE, sample, without
from trtverify.fixtures.report import charts, html, saved, table, view
from trtverify.fixtures.report.page import TEMPLATES
from trtverify.fixtures.report.record import PlacementRow

LOCAL = re.compile(r"#[a-z-]+|data:,")


class Elements(HTMLParser):
    """Tags with their attributes, the numbers in <data>, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.values: list[float] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self.values.append(float(dict(attrs)["value"] or "nan"))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(*runs: dict[str, Any]) -> str:
    """The page of some runs."""
    return html.render([saved.parse(run) for run in runs])


def test_numbers_are_the_runs() -> None:
    """Every latency, size, ratio and accuracy of run.json stands in the page, to the last bit."""
    run = sample()
    values = set(Elements(page_of(run)).values)
    wanted = {row["size_bytes"] / 1e6 for row in run["engines"]}
    wanted |= {row[name] for row in run["speedups"] for name in ("ratio", "low", "high")}
    wanted |= {row["sqnr_db"] for row in run["agreements"]} - {None}
    wanted |= {row["loss"] for row in run["curves"]}
    assert wanted <= values
    for row in run["latencies"]:
        median = statistics.median(row["seconds"]) * 1e3
        assert any(value == pytest.approx(median, rel=1e-12) for value in values)


def test_the_table_is_the_terminals() -> None:
    """The page's summary holds the very cells that the terminal prints."""
    run = sample(hostile=False)
    words = [word for word in Elements(page_of(run)).words if word.strip()]
    cells = [cell for row in table.rows(run) for cell in row]
    start = next(n for n in range(len(words)) if words[n : n + 3] == cells[:3])
    assert words[start : start + len(cells)] == cells


def test_a_baseline_that_was_measured_in_turn_alone_has_its_latency() -> None:
    """As in a run of lab 4 alone, where lab 1 would measure FP32: the table and the chart take it from the pair."""
    run = sample(hostile=False)
    name, backend = run["engines"][0]["model"], run["engines"][0]["backend"]
    run["latencies"] = [row for row in run["latencies"] if row["precision"] != "fp32"]
    for row in run["speedups"]:
        row.update(slow=[2.5e-3, 2.25e-3, 2.75e-3], fast=[1e-3, 1e-3, 1e-3])
    (cells,) = [row for row in table.rows(run) if row[0].startswith(name) and row[1:3] == [backend, "FP32"]]
    assert cells[4] == "2.500"
    assert Elements(page_of(run)).values.count(2.5) >= len({row["model"] for row in run["speedups"]})


def test_what_the_builder_was_asked_stands_with_its_engine() -> None:
    run = sample()
    assert "--dla-core" not in page_of(run)
    run["engines"][0]["built_with"] = "--workspace=512 --dla-core=0"
    assert page_of(run).count("--workspace=512 --dla-core=0") == 1


def test_no_string_becomes_markup() -> None:
    """The page of a run full of attacks has the very elements that the page of a harmless one has."""
    attacked, harmless = Elements(page_of(sample())), Elements(page_of(sample(hostile=False)))
    assert [tag for tag, _attributes in attacked.tags] == [tag for tag, _attributes in harmless.tags]
    assert [sorted(attributes) for _tag, attributes in attacked.tags] == [sorted(a) for _tag, a in harmless.tags]
    shown = "".join(attacked.words)
    assert HOSTILE.partition("\u202e")[0] in shown
    assert not re.search("[\u202e\x00\ud800]", shown)


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """No script, no inline style, no event handler, no address outside the page."""
    text = page_of(sample())
    for tag, attributes in Elements(text).tags:
        assert tag not in ("script", "iframe", "img", "object", "embed", "form", "base")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src", "xlink:href"):
            assert name not in attributes or LOCAL.fullmatch(attributes[name] or "")
    assert "url(" not in re.sub(r"url\(#[a-z]+\)", "", text)


def test_the_policy_names_the_style() -> None:
    """The one style that the page's policy allows is the one it has."""
    text = page_of(sample())
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Elements(text).tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    "keys",
    [
        ("engines", "latencies", "speedups", "agreements"),
        ("latencies", "speedups", "agreements"),
        ("placements", "calibrations", "curves", "verdicts"),
        ("engines", "latencies", "speedups", "agreements", "placements", "calibrations", "curves", "verdicts"),
    ],
)
def test_what_is_missing_is_left_out(keys: tuple[str, ...]) -> None:
    """A run that measured little still has its page, and every link leads somewhere."""
    tags = Elements(page_of(without(sample(), *keys))).tags
    places = {attributes["id"] for _tag, attributes in tags if "id" in attributes}
    links = {(attributes["href"] or "").removeprefix("#") for tag, attributes in tags if tag == "a"}
    assert links <= places


def test_runs_side_by_side() -> None:
    """Two runs: both medians and their ratio; and the tests whose verdict changed, those alone."""
    first, second = sample(1, hostile=False), sample(2, hostile=False)
    second["verdicts"][1]["verdict"] = "passed"
    page = view.page([saved.parse(first), saved.parse(second)])
    assert page.changed() == [("tests/test_lab1.py::test_b", ["failed", "passed"])]
    medians = [statistics.median(run["latencies"][0]["seconds"]) * 1e3 for run in (first, second)]
    row = next(row for row in page.medians() if row[:3] == ("resnet50", "onnxruntime", "fp32"))
    assert row[3] == pytest.approx(medians, rel=1e-12)
    text = page_of(first, second)
    assert f"({medians[0] / medians[1]:.2f}×)" in text
    assert "Orin Nano 1" in text
    assert "Orin Nano 2" in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("created",), 5),
        (("engines", 0, "size_bytes"), "1"),
        (("engines", 0, "size_bytes"), True),
        (("engines", 0, "precision"), "fp8"),
        (("engines", 0, "every_layer"), [["a", "b"]]),
        (("latencies", 0, "seconds"), []),
        (("latencies", 0, "seconds"), [-1.0]),
        (("speedups", 0, "band"), [1.0]),
        (("verdicts", 0, "verdict"), "perfect"),
        (("verdicts", 1, "finding"), {"expected": "a"}),
        (("machine", "cores"), None),
        (("gpu_now",), []),
        (("more",), 1),
    ],
)
def test_a_record_that_is_none_is_refused(path: tuple[Any, ...], value: Any) -> None:
    """A saved run comes from anybody: each departure from the schema is refused."""
    run = copy.deepcopy(sample())
    saved.parse(run)
    inner = run
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=r"expected|missing"):
        saved.parse(run)


def test_page_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files become a page; what is no run is refused with its name."""
    for number in (1, 2):
        table.write(sample(number), tmp_path / str(number))
    html.main([str(tmp_path / "1"), str(tmp_path / "2" / "run.json"), "--out", str(tmp_path / "out"), "--lang=en"])
    assert "compared" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        html.main([str(tmp_path / "bad.json"), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "bad.json: " in capsys.readouterr().err


def test_half_a_surrogate_is_kept(tmp_path: Path) -> None:
    """A string that UTF-8 cannot hold is written as JSON's escape and read back the same."""
    run = sample()
    assert "\ud800" in run["placements"][0]["layers"][0][0]
    html.write(run, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == run


@pytest.mark.parametrize(
    ("values", "ends", "labels"),
    [
        ([0.4, 3.7], (0, 4), ["0", "1", "2", "3", "4"]),
        ([0.0012], (0, 0.00125), ["0.00000", "0.00025", "0.00050", "0.00075", "0.00100", "0.00125"]),
        ([], (0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0], (0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_axes_end_on_round_numbers(values: list[float], ends: tuple[float, float], labels: list[str]) -> None:
    """An axis holds its values, begins at 0 and is labelled with as many digits as its step needs."""
    scale = charts.axis(values)
    assert (scale.low, scale.high) == ends
    assert [text for _place, text in scale.labels()] == labels


def test_axis_keeps_what_is_off_it_at_its_end() -> None:
    """A sample far beyond the 99th percentile is drawn at the end, not outside the page."""
    scale = charts.axis([10])
    assert scale.at(1e9) == scale.at(10)
    assert scale.at(-5) == scale.at(0)
    assert scale.share(5) == pytest.approx((scale.share(0) + scale.share(10)) / 2)


def test_strip_counts_its_blocks() -> None:
    """Neighbouring layers on one device are one block."""
    layers = tuple((str(n), device) for n, device in enumerate(["DLA", "DLA", "GPU", "DLA"]))
    assert view.blocks(PlacementRow("lab3", "m", 2, "table", layers)) == [("DLA", 0, 2), ("GPU", 2, 1), ("DLA", 3, 1)]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_are_told_apart(scheme: int) -> None:
    """WCAG AA on page and on cards: words at 4.5 to 1, bars, lines and points at 3 to 1."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colours = {name: pair[scheme] for name, *pair in found}
    grounds = [colours.pop("page"), colours.pop("card")]
    del colours["edge"]  # it only frames and rules
    for name, colour in colours.items():
        least = 3 if name in ("fp32", "tf32", "fp16", "int8", "unknown") else 4.5
        for ground in grounds:
            assert contrast(colour, ground) >= least, (name, contrast(colour, ground))


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_report_option(copy_of: Callable[..., Path], verify: Callable[..., Any], tmp_path: Path) -> None:
    """`--report` writes the page of the run that it ends."""
    outcome = verify(copy_of("lab3"), "lab3", "-k", "crossings", f"--report={tmp_path / 'report'}")
    assert outcome.status == 0, outcome.output
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    run = json.loads((tmp_path / "report" / "run.json").read_text(encoding="utf-8"))
    assert run["placements"][0]["crossings"] >= 0
    assert "test_crossings_add_up" in text
    assert "DLA placement" in text
