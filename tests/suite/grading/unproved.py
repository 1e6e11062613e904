"""Preloaded by the workers of most farm tests, which are not about the walls: they are believed to hold."""

from __future__ import annotations

from trtverify.grading.sandbox import selftest


def believe() -> None:
    """In place of trying them."""


selftest.require_walls = believe
