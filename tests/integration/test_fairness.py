"""A long backlog of one call beside calls that come later, in the same partition and the same workers: everybody takes turns."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pipeline.demo import assets
from pipeline.runtime.settings import Settings
from schemas.codec import Codec
from schemas.records import CallSegment
from tests.integration.feeds import HalfFed
from tests.integration.reading import records_of
from tests.integration.system import System, looped, wait_for_words

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

BACKLOG_SECONDS = 1200  # at full speed, of which a tenth is done when the others are
LIVE = ("live-1", "live-2", "live-3")
TURNS = 3  # outputs of the backlog for one of a later call, which waits for its records at times
CODEC = Codec()
WRITERS = {"vad": "call.speech", "asr": "call.annotations", "assemble": "call.segments"}


@pytest.fixture(scope="module")
def long_call(tmp_path_factory: pytest.TempPathFactory) -> assets.DemoCall:
    """Two people who talk without end."""
    return looped(assets.calls()[0], BACKLOG_SECONDS, tmp_path_factory.mktemp("long"))


def keys(settings: Settings, name: str) -> list[str]:
    """Return the calls of a topic's records, in order."""
    return [message.key().decode() for message in records_of(settings, name)]


def test_a_call_with_a_backlog_takes_its_turn_and_no_more(
    system: System, call: assets.DemoCall, long_call: assets.DemoCall, expected: dict[str, Any]
) -> None:
    settings = system.settings
    backlog = HalfFed(settings, long_call, "backlog")
    backlog.rest()
    wait_for_words(settings, "backlog")
    feeds = [HalfFed(settings, call, call_id) for call_id in LIVE]
    before = {name: len(records_of(settings, name)) for name in WRITERS.values()}
    for feed in feeds:
        feed.rest()
    for call_id in LIVE:
        assert system.transcript(call_id) == expected
    for stage, name in WRITERS.items():
        found = keys(settings, name)[before[name] :]
        last = max(place for place, key in enumerate(found) if key in LIVE)
        outputs = Counter(found[: last + 1])  # until the later calls are done
        assert 0 < outputs["backlog"] <= TURNS * max(outputs[call_id] for call_id in LIVE), (stage, outputs)
    ends = [one.key() for one in records_of(settings, "call.segments") if CODEC.decode(one.value(), CallSegment).ended]
    assert sorted(ends) == [call_id.encode() for call_id in LIVE]  # and the backlog has far to go
