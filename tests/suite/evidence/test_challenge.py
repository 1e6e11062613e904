"""Evidence bound to a person: one's own answers to one's own code, a lent file not, whatever is written in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.suite import tiny
from tests.suite.sample_evidence import Members, fitted, of, on_jetson, pack
from trtverify.fixtures.backends.onnxruntime.backend import OnnxRuntimeBackend
from trtverify.fixtures.evidence import challenge, contradictions, handed_in
from trtverify.fixtures.evidence.read import read
from trtverify.fixtures.evidence.schema import DOCUMENT
from trtverify.fixtures.networks.models import BY_NAME, Model
from trtverify.fixtures.words.terms import BuildOptions, Engine, Precision

SMALL = dataclasses.replace(BY_NAME["mobilenet_v2"], input=("input", (1, 3, 32, 32)), output=("output", (1, 10)))
MINE, LENT = "1f0c-22aa-9b3e-5d10-77c4", "0000-1111-2222-3333-4444"
Answer = Callable[[str], npt.NDArray[np.float64]]


def answers_of(path: Path) -> Answer:
    """What a model answers to a code's images in ONNX Runtime, as a sketch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def answer(code: str) -> npt.NDArray[np.float64]:
        batch = np.stack([challenge.image(code, SMALL, number) for number in range(challenge.IMAGES)])
        return challenge.sketch(session.run(["output"], {"input": batch})[0])

    return answer


def built(model: Path, precision: Precision, tmp_path: Path) -> Path:
    """The engine of the onnxruntime backend, which is an ONNX file too."""
    calibration = tiny.calibration(tmp_path / "calibration") if precision is Precision.INT8 else None
    shapes = {"input": (challenge.IMAGES, 3, 32, 32)}
    engine = tmp_path / f"{precision}.engine"
    OnnxRuntimeBackend().build(model, BuildOptions(precision, calibration=calibration, shapes=shapes), engine)
    return engine


def rates(students: int, tmp_path: Path) -> tuple[list[float], list[float]]:
    """How well honest and lent files fit: each student's own FP16 or INT8 answers, and those of the one before."""
    model = tiny.network(tmp_path / "model.onnx", batch="N")
    reference = answers_of(model)
    engines = [answers_of(built(model, precision, tmp_path)) for precision in (Precision.FP16, Precision.INT8)]
    honest, lent = [], []
    before = engines[0]("the first to lend")
    for student in range(students):
        code = f"code {student}"
        own, expected = engines[student % 2](code), reference(code)
        assert challenge.fit(expected, expected) >= challenge._LEAST_SELF
        honest.append(challenge.fit(own, expected))
        lent.append(challenge.fit(before, expected))
        before = own
    return honest, lent


def test_a_few_honest_and_lent_ones(tmp_path: Path) -> None:
    honest, lent = rates(8, tmp_path)
    assert min(honest) >= challenge.CERTAIN > max(lent)


@pytest.mark.slow
def test_a_thousand_honest_and_a_thousand_lent_ones(tmp_path: Path) -> None:
    """No error; and what lent ones reach is spread as derived: mean 0, deviation 1, whatever the network."""
    honest, lent = rates(1000, tmp_path)
    assert min(honest) >= challenge.CERTAIN > max(lent)
    assert abs(float(np.mean(lent))) < 4 / 1000**0.5
    assert 0.8 < float(np.std(lent)) < 1.2


@pytest.mark.parametrize("rank", [2, 5, 40])
def test_chance_is_the_same_for_every_network(rank: int) -> None:
    """Of answers in few directions or many, those to other images fit by chance alone."""
    draw = np.random.default_rng(rank)
    basis = draw.standard_normal((rank, challenge.SKETCH)) * np.geomspace(1, 0.05, rank)[:, None]
    scores = [
        challenge.fit(*(draw.standard_exponential((challenge.IMAGES, rank)) @ basis for _ in range(2)))
        for _ in range(2000)
    ]
    assert 0.9 < float(np.std(scores)) < 1.1
    assert max(scores) < challenge.CERTAIN


def test_images_are_the_same_everywhere() -> None:
    """Drawn by hashes: of this code, these values; of another code, other images."""
    drawn = challenge.image("abc", SMALL, 0)
    assert drawn.shape == (3, 32, 32)
    assert drawn.dtype == np.float32
    assert np.array_equal(drawn, challenge.image(" ABC\n", SMALL, 0))
    assert np.abs(drawn - challenge.image("abd", SMALL, 0)).mean() > 0.3
    assert np.abs(drawn - challenge.image("abc", SMALL, 1)).mean() > 0.3
    assert drawn[0, 0, :3] == pytest.approx([-0.5220, -1.8927, -2.1179], abs=1e-3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Lab 3's network as the tests have it: 32×32 pixels, ten classes."""
    monkeypatch.setitem(BY_NAME, "mobilenet_v2", SMALL)
    return SMALL


def written(folder: Path, code: str) -> Members:
    """Evidence of a run with a code: each engine answers as the model does, give or take its noise."""
    tiny.network(folder / "mobilenet_v2.onnx")
    members = fitted(on_jetson(), folder / "mobilenet_v2.onnx")
    answer = answers_of(tiny.network(folder / "dynamic.onnx", batch="N"))(code)
    draw = np.random.default_rng(1)
    document = members[DOCUMENT]
    document["challenge"] = challenge.fingerprint(code)
    document["answers"] = [
        {
            **{name: row[name] for name in ("lab", "model", "backend", "precision", "batch")},
            "sketch": (answer + draw.normal(0, answer.std(axis=0) / 10, answer.shape)).tolist(),
        }
        for row in document["engines"]
    ]
    return members


def problems(folder: Path, members: Members, code: str | None) -> tuple[str, ...]:
    """What the grader says of this evidence, having put a code beside it."""
    pack(members, folder / handed_in.FILE)
    (folder / challenge.FILE).unlink(missing_ok=True)
    if code is not None:
        (folder / challenge.FILE).write_text(f"{code}\n")
    handed_in._judged.cache_clear()
    found = handed_in.handed_in(folder, "lab3")
    assert found is not None
    return found.problems


def test_ones_own_evidence_is_taken(tmp_path: Path, small: Model) -> None:
    members = written(tmp_path, MINE)
    assert problems(tmp_path, members, MINE) == ()
    assert problems(tmp_path, members, None) == ()


def renamed(members: Members) -> None:
    """The lender's file, with the borrower's fingerprint written over the lender's."""
    members[DOCUMENT]["challenge"] = challenge.fingerprint(MINE)


def no_answers(members: Members) -> None:
    renamed(members)
    del members[DOCUMENT]["answers"]


def one_engines_answers(members: Members) -> None:
    renamed(members)
    members[DOCUMENT]["answers"].pop()


def fewer_answers(members: Members) -> None:
    renamed(members)
    of(members, "answers")["sketch"].pop()


def no_code(members: Members) -> None:
    del members[DOCUMENT]["answers"], members[DOCUMENT]["challenge"]


def zeros(members: Members) -> None:
    renamed(members)
    for row in members[DOCUMENT]["answers"]:
        row["sketch"] = [[0.0] * challenge.SKETCH] * challenge.IMAGES


LENDING: dict[str, tuple[Callable[[Members], Any], str]] = {
    "as it is": (lambda m: None, "another code"),
    "with the fingerprint changed": (renamed, "are not your model's"),
    "without answers": (no_answers, "no answers to your code's images"),
    "with the answers of one engine": (one_engines_answers, "no answers to your code"),
    "with fewer answers": (fewer_answers, "answers to 63 images"),
    "with none at all": (no_code, "without your code"),
    "with zeros for answers": (zeros, "are not your model's"),
}


@pytest.mark.parametrize("name", LENDING)
def test_a_lent_file_is_refused(tmp_path: Path, small: Model, name: str) -> None:
    members = written(tmp_path, LENT)
    forge, reason = LENDING[name]
    forge(members)
    found = problems(tmp_path, members, MINE)
    assert reason in "\n".join(found)


def test_a_model_that_cannot_be_told_is_not_judged(tmp_path: Path, small: Model) -> None:
    """Where a network answers all images alike, nothing is said of its evidence."""
    members = written(tmp_path, LENT)
    renamed(members)
    assert challenge.fit(np.zeros((64, 64)), np.zeros((64, 64))) == 0.0
    pack(members, tmp_path / "evidence.zip")
    (tmp_path / "mobilenet_v2.onnx").write_bytes(b"no model")
    assert not list(challenge.against_code(read(tmp_path / "evidence.zip"), tmp_path, MINE))


def test_a_link_is_no_code(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(MINE)
    (tmp_path / challenge.FILE).symlink_to(tmp_path / "elsewhere")
    assert challenge.given(tmp_path) is None


def test_what_is_read_back_is_what_was_answered(tmp_path: Path) -> None:
    """An engine of this machine, through the writer's own function."""
    model = tiny.network(tmp_path / "mobilenet_v2.onnx")
    wanted = BuildOptions(Precision.FP32, shapes={"input": (1, 3, 32, 32)})
    out = tmp_path / "engine"
    layers = OnnxRuntimeBackend().build(model, wanted, out)
    engine = Engine("onnxruntime", out, wanted, out.stat().st_size, "", 0.0, layers)
    case = Case(OnnxRuntimeBackend(), SMALL, Precision.FP32)
    (row,) = challenge.answered({1: (case, engine)}, MINE)
    assert row.key == ("lab3", "mobilenet_v2", "onnxruntime", "fp32", 1)
    expected = answers_of(tiny.network(tmp_path / "dynamic.onnx", batch="N"))(MINE)
    assert challenge.fit(np.asarray(row.sketch), expected) >= challenge.CERTAIN
    assert list(contradictions.contradictions(read(pack(on_jetson(), tmp_path / "e.zip")))) == []


@dataclasses.dataclass(frozen=True)
class Case:
    """As much of a `Case` as answering takes."""

    backend: OnnxRuntimeBackend
    model: Model
    precision: Precision
    lab: str = "lab3"
    batch: int = 1
