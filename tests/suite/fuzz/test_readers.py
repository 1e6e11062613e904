"""A short fuzz of every reader of students' bytes, the same each time, and the inputs that longer ones found."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("hypothesis", reason="pip install -r requirements-dev.txt")

import hypothesis.configuration
from hypothesis import HealthCheck, Phase

from tests.suite.fuzz import models
from tests.suite.fuzz.readers import readers
from trtverify.fixtures.graphs import contents

FOUND = Path(__file__).with_name("found")
NAMES = tuple(readers(Path()))
EXAMPLES = 60


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where readers read; Hypothesis, too, writes here."""
    hypothesis.configuration.set_hypothesis_home_dir(tmp_path / "hypothesis")
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.mark.parametrize("name", NAMES)
def test_every_input_is_taken_or_refused(name: str, place: Path) -> None:
    reader, counts = readers(place.parent)[name], {True: 0, False: 0}

    def once(data: bytes) -> None:
        counts[reader.takes(data, place)] += 1

    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    settings(hypothesis.given(reader.inputs())(once))()
    assert all(counts.values()), f"the inputs test one half of the reader alone: {counts}"


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: path.name)
def test_what_a_fuzzer_found_stays_mended(path: Path, place: Path) -> None:
    """Each is named for its reader, and lies where it says whether that refuses it."""
    name = path.name.partition("-")[0]
    taken = readers(place.parent)[name].takes(path.read_bytes(), place)
    assert ("taken" if taken else "refused") == path.parent.name


def test_a_fault_is_a_fault(place: Path) -> None:
    """The fuzzer notices what is no refusal."""
    reader = readers(place.parent)["json"]
    (place / "any.json").mkdir()
    with pytest.raises(IsADirectoryError):
        reader.takes(b"{}", place)


@pytest.mark.parametrize("linked", [False, True])
def test_weights_behind_a_linked_folder_are_refused(place: Path, linked: bool) -> None:
    """A fuzzer makes no links, and in a snapshot there are none; `pytest --submission` reads the folder itself."""
    (place / "outside").mkdir()
    (place / "outside" / models.WEIGHTS).write_bytes(models.external_weights())
    path = place / "inside" / "tiny.onnx"
    path.parent.mkdir()
    path.write_bytes(models.with_weights_in(f"folder/{models.WEIGHTS}"))
    if linked:
        (path.parent / "folder").symlink_to(place / "outside")
        with pytest.raises(ValueError, match="is missing"):
            contents.read(path)
    else:
        (place / "outside").rename(path.parent / "folder")
        assert [name for name, _shape in contents.read(path).weights] == ["/conv", "/fc"]
