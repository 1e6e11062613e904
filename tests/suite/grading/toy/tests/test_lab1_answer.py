"""Lab 1 of the toy suite: the answer is 42."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.lab1


@pytest.mark.points(2)
def test_answer(answer: Any) -> None:
    if type(answer.get("answer")) is not int or answer["answer"] != 42:
        pytest.fail(f"expected: 42\nfound: {answer.get('answer')}", pytrace=False)


@pytest.mark.points(2)
@pytest.mark.parametrize("factor", [2, 3])
def test_products(answer: Any, factor: int) -> None:
    if answer.get(f"times{factor}") != 42 * factor:
        pytest.fail(f"expected: {42 * factor}\nfound: {answer.get(f'times{factor}')}", pytrace=False)


def test_bonus(answer: Any) -> None:
    if "bonus" not in answer:
        pytest.skip("not gradable: optional artifact not submitted: no bonus")
