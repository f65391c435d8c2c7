"""Identifiers: what a call is called, what a segment is called."""

from __future__ import annotations

import re

from pipeline.core.errors import PoisonError

CALL_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CALL_CHANNEL = -1  # channel number of records that concern the whole call


def is_call_id(text: str) -> bool:
    """Return whether ``text`` may name a call."""
    return CALL_ID.fullmatch(text) is not None


def call_id_of_key(key: bytes | None) -> str:
    """Return the call id in a record key. Raises PoisonError when the key names no call."""
    try:
        text = (key or b"").decode("ascii")
    except UnicodeDecodeError:
        raise PoisonError("the record key is not ASCII") from None
    if not is_call_id(text):
        raise PoisonError("the record key is not a call id ([A-Za-z0-9._:-]{1,128})")
    return text


def segment_id(call_id: str, channel: int, start_sample: int) -> str:
    """Return the id of a segment, the same on every protocol.

    >>> segment_id("c1", 0, 3360)
    'c1/0/3360'
    """
    return f"{call_id}/{channel}/{start_sample}"
