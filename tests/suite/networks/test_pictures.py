"""Pictures that cannot be opened are named once and left out; where none can, it is said whose folder it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trtverify.fixtures.networks.datasets import Photos, any_opens, find_labelled, find_photos
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.words import notes

BROKEN: dict[str, Callable[[Path], object]] = {
    "._photo1.jpg": lambda path: path.write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(100)),
    "cut.jpg": lambda path: path.write_bytes(picture(path, 9)[:4000]),
    "cut.png": lambda path: path.write_bytes(picture(path, 9)[:4000]),
    "empty.jpg": lambda path: path.write_bytes(b""),
    "pointer.jpg": lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "page.png": lambda path: path.write_bytes(b"<!DOCTYPE html><html></html>"),
    "text.jpeg": lambda path: path.write_bytes(b"no picture"),
    "folder.jpg": lambda path: path.mkdir(),
}


def picture(path: Path, seed: int, side: int = 300) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        picture(tmp_path / f"photo{number}.jpg", number)
    for name, make in BROKEN.items():
        make(tmp_path / name)
    return tmp_path


def test_what_cannot_be_opened_is_left_out_and_named_once(folder: Path) -> None:
    found = find_photos(folder)
    assert found is not None
    for seed in range(5):
        batch = found.batch(RESNET50, 3, seed)
        assert batch.shape == (3, 3, 224, 224)
        assert len({image.tobytes() for image in batch}) == 3, "the three sound ones, whatever the seed"
    assert len(list(found.known())) == 3
    for name in BROKEN:
        assert len([text for text in notes.notes() if text.startswith(f"picture {name} cannot be opened")]) == 1, name
    assert any("git lfs pull" in text for text in notes.notes())


def test_a_folder_without_a_single_one(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    found = find_photos(tmp_path)
    assert found is not None
    assert not any_opens(found.files)
    with pytest.raises(ValueError, match=r"can be opened$"):
        found.batch(RESNET50, 1, 0)


def test_the_run_says_whose_folder_it_is(tmp_path: Path, verify: Callable[..., Any], labs: Callable[..., Path]) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"<html>")
    outcome = verify(labs("lab3"), "lab3", "-k", "answers_depend", f"--photos={tmp_path}")
    assert outcome.with_verdict("not gradable") == {"test_answers_depend_on_the_image"}, outcome.output
    assert "none of the 2 pictures in" in outcome.output
    assert outcome.output.count("picture b.jpg cannot be opened, and is left out: a web page") == 1


def test_labelled_images_are_picked_from_those_that_open(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "test" / label).mkdir(parents=True)
        for number in range(4):
            picture(tmp_path / "test" / label / f"{number}.png", number, 32)
        (tmp_path / "test" / label / "broken.png").write_bytes(b"")
        picture(tmp_path / "test" / label / "large.png", 5, 64)
    found = find_labelled(tmp_path, False, 100, 1)
    assert found is not None
    assert found.images.shape == (8, 3, 32, 32)
    assert sorted(found.labels.tolist()) == [0] * 4 + [1] * 4
    assert any("large.png is 64×64, not 32×32" in text for text in notes.notes())


def test_labelled_images_of_which_none_opens(tmp_path: Path) -> None:
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "a.png").write_bytes(b"")
    assert find_labelled(tmp_path, False, 10, 1) is None


def test_stand_ins_are_as_they_were() -> None:
    found = find_photos(None)
    assert isinstance(found, Photos)
    assert found.batch(RESNET50, 4, 0).shape[0] == 4
