"""Whatever can be decoded is used or poison; there is no other way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import release
from schemas.codec import CodecError
from tests.fakes import CODEC, stages, step
from tests.property.durable import BOUNDED, EXAMPLES, PLAIN, log_of


@cache
def plain_log(name: str) -> tuple[Any, ...]:
    return tuple(log_of(PLAIN, name))


NUMBERS = st.sampled_from([2**63 - 1, 2**62, 2**49, 2**48 - 1, 2**40, -(2**63), -1, 0, 1, 8_000])


@settings(BOUNDED, max_examples=8 * EXAMPLES)
@given(name=st.sampled_from(["vad", "asr", "diarize", "assemble"]), data=st.data())
def test_any_decodable_record_is_used_or_poison(name: str, data: st.DataObject) -> None:
    """An exception, or an output that cannot be encoded, would end the worker again and again."""
    log, stage = list(plain_log(name)), stages(PLAIN)[name]
    at = data.draw(st.integers(0, len(log) - 1))
    for _ in range(data.draw(st.integers(1, 3))):
        names = [item.name for item in fields(log[at]) if item.name != "call_id"]
        field = data.draw(st.sampled_from(names))
        value = getattr(log[at], field)
        changed: Any
        if isinstance(value, int):
            changed = data.draw(NUMBERS if field != "channel" else st.sampled_from([-2, -1, 0, 1]))
        elif isinstance(value, str):
            changed = data.draw(st.sampled_from([*names, "audio", "watermark", "unheard_of", "asr", "diarize", "vad"]))
        elif isinstance(value, Mapping):  # next_sequence
            changed = {str(data.draw(st.integers(-1, 1))): data.draw(NUMBERS)}
        elif value is None:
            changed = release.example(field.capitalize())
        elif data.draw(st.booleans()):
            changed = None
        else:
            inner = data.draw(st.sampled_from([f.name for f in fields(value)]))
            old = getattr(value, inner)
            new = data.draw(NUMBERS) if isinstance(old, int) and not isinstance(old, bool) else old
            changed = replace(value, **{inner: new})
        log[at] = replace(log[at], **{field: changed})
    try:
        CODEC.encode(log[at])
    except CodecError:
        return
    flow = stage.flow()
    for offset, record in enumerate(log):
        effects = step(flow, stage, record, offset)
        for value in (*effects.outputs, *effects.states):
            CODEC.encode(value)
