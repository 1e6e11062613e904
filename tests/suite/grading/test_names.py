"""A name that a student chose for themselves costs nobody else theirs, and ends no run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from trtverify.grading import pupils
from trtverify.grading.store import StoreError
from trtverify.grading.taking import layouts, roster
from trtverify.grading.taking.roster import Person


def gradescope(folder: Path, *names: str) -> list[str]:
    """Students of Gradescope's export, in the order of these names."""
    lines = ["---"]
    for number, name in enumerate(names, 1):
        (folder / f"submission_{number}").mkdir(parents=True)
        lines += [f"submission_{number}:", "  :submitters:", f'  - :name: "{name}"', f"    :sid: '{number:03}'"]
    (folder / "submission_metadata.yml").write_text("\n".join(lines), encoding="utf-8")
    found = {entry.source.name: entry.student for entry in layouts.listed(folder)[0]}
    return [found[f"submission_{number}"] for number in range(1, len(names) + 1)]


def test_who_is_called_as_others_are_told_apart_gets_a_number(tmp_path: Path) -> None:
    assert gradescope(tmp_path / "a", "Ann", "Bo", "Cy") == ["Ann", "Bo", "Cy"]
    assert gradescope(tmp_path / "b", "Ann", "Ann", "Cy") == ["Ann (submission_1)", "Ann (submission_2)", "Cy"]
    found = gradescope(tmp_path / "c", "Ann", "Ann", "Ann (submission_1)", "Ann (submission_1) (submission_3)")
    assert found[:2] == ["Ann (submission_1)", "Ann (submission_2)"]
    assert len(set(found)) == 4
    # A control character is written out, as somebody may be called already.
    assert len(set(gradescope(tmp_path / "d", "Ann\\u0007", "Ann\\\\x07"))) == 2
    # Long names are shortened, and differ only where they were cut.
    assert len(set(gradescope(tmp_path / "e", "n" * 240, "n" * 240, f"{'n' * 240} (submission_1)"))) == 3


@pytest.mark.parametrize("seed", range(12))
def test_no_choice_of_names_ends_a_listing(tmp_path: Path, seed: int) -> None:
    """Of names that imitate each other and what others are told apart by."""
    draw = random.Random(seed)
    names = ["Ann"]
    for number in range(8):
        one = draw.choice(names)
        names.append(draw.choice([one, f"{one} (submission_{draw.randint(1, number + 2)})", f"{one} ", one.upper()]))
    assert len(set(gradescope(tmp_path, *names))) == len(names)
    assert len(pupils.listed(tmp_path, None, None, "given").students) == len(names)


def test_moodles_names_are_told_apart_too(tmp_path: Path) -> None:
    for name in ("Ann_7", "Ann_8", "Ann_7_9", "Ann_7_8_4"):
        (tmp_path / f"{name}_assignsubmission_file_").mkdir()
    found = {entry.source.name.partition("_assign")[0]: entry.student for entry in layouts.listed(tmp_path)[0]}
    assert found == {"Ann_7": "Ann_7", "Ann_8": "Ann_8", "Ann_7_9": "Ann_7_9", "Ann_7_8_4": "Ann_7_8"}


def test_two_submissions_of_one_name_that_no_number_tells_apart_are_said(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann.zip").touch()
    with pytest.raises(StoreError, match="both of ann"):
        pupils.listed(tmp_path, None, None, "given")


@pytest.mark.parametrize("order", [1, -1])
def test_who_fits_a_person_less_surely_gives_way(order: int) -> None:
    """An account that ends as a neighbour's, and a name that is a neighbour's address."""
    ann, bo = Person(name="Ann", github="ann", email="ann@x.edu", idnumber="7"), Person(name="Bo", github="bo-b")
    folders = {
        "labs-ann": ("labs-ann",),
        "labs-evil-ann": ("labs-evil-ann",),
        "labs-bo-b": ("labs-bo-b",),
        "labs-x-bo-b": ("labs-x-bo-b",),
    }
    found, unmatched, absent = roster.matched(dict([*folders.items()][::order]), [ann, bo])
    assert found == {"labs-ann": ann, "labs-bo-b": bo}
    assert (sorted(unmatched), absent) == (["labs-evil-ann", "labs-x-bo-b"], [])
    written = {name: (name,) for name in ("Ann", "ANN", " Ann")}
    found, unmatched, _absent = roster.matched(dict([*written.items()][::order]), [ann, bo])
    assert (found, sorted(unmatched)) == ({"Ann": ann}, [" Ann", "ANN"])
    people = {"Ann": ("7", "ann@x.edu", "Ann"), "Eve": ("99", "eve@x.edu", "ann@x.edu")}
    found, unmatched, _absent = roster.matched(dict([*people.items()][::order]), [ann, bo])
    assert (found, unmatched) == ({"Ann": ann}, ["Eve"])
