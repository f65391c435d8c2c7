from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from pipeline.core.frozen import changed
from pipeline.vad.state import VadState


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


def test_a_copy_has_the_changes_and_the_original_has_not() -> None:
    point = Point(1, 2)
    moved = changed(point, x=5)
    assert (moved, point) == (Point(5, 2), Point(1, 2))
    assert changed(point) is not point


def test_it_says_what_replace_says() -> None:
    state = VadState(rate=8_000)
    assert vars(changed(state, watermark=7, is_first=False)) == vars(replace(state, watermark=7, is_first=False))


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(TypeError, match="Point has no field z"):
        changed(Point(1), z=3)
