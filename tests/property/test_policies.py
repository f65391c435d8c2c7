"""Both policies: what is committed is never taken back, does not depend on record sizes, nor on company."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.demo import assets
from pipeline.demo.feeding import options_of
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import records
from pipeline.replay import Replay
from pipeline.runtime.settings import load
from pipeline.sink.transcript import Transcript
from schemas.records import CallAudio, CallSegment
from tests.fakes import PROFILE, Call, Said, run_chain
from tests.integration.system import clip, without_ids
from tests.transcripts import transcript

POLICIES = ("alignatt", "local_agreement")
COMPANY = 40


@st.composite
def scripts(draw: st.DrawFn) -> tuple[Said, ...]:
    """Draw words of various lengths with pauses between them, some of them long."""
    words, at = [], 0.4
    for index in range(draw(st.integers(1, 14))):
        length = draw(st.sampled_from((0.12, 0.25, 0.5)))
        mark = draw(st.sampled_from(("", "", ".")))
        words.append(Said(f"w{index}{mark}", round(at, 6), round(at + length, 6)))
        at += length + draw(st.sampled_from((0.02, 0.05, 0.3, 0.7)))
    return tuple(words)


@pytest.mark.parametrize("policy", POLICIES)
@given(
    script=scripts(), sizes=st.lists(st.sampled_from((0.02, 0.1, 0.2, 0.4, 1.0)), min_size=2, max_size=2, unique=True)
)
@settings(max_examples=15, deadline=None)
def test_commits_are_append_only_and_do_not_depend_on_record_sizes(
    policy: str, script: tuple[Said, ...], sizes: list[float]
) -> None:
    call = Call(script={0: script}, seconds=script[-1].end + 2.0)
    profile = replace(PROFILE, policy=policy)
    chains = [run_chain(call, call.records(size), profile=profile) for size in sizes]
    for chain in chains:
        committed = [r for r in chain.outputs["asr"] if r.words is not None and r.channel == 0]
        placed = [word for record in committed for word in record.words.words]
        assert [word.text for word in placed] == [word.text for word in script]
        assert all(a.end_sample <= b.start_sample for a, b in itertools.pairwise(placed))
        assert {record.words.policy for record in committed} == {policy}
    assert transcript(chains[0].segments) == transcript(chains[1].segments)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_call_is_transcribed_alone_as_among_forty_others(policy: str, tmp_path: Path) -> None:
    """The shipped model, records of all calls interleaved."""
    shipped = assets.calls()
    kept = load(environment={}, flags={"asr.policy": policy}).settings
    replay = Replay(kept)

    def fed(call: assets.DemoCall, call_id: str) -> list[CallAudio]:
        with open_audio(call.path, name=call.name) as audio:
            return list(records(audio, options_of(call, 0.4), call_id=call_id, capture_start_ms=0))

    ours = clip(shipped[0], 9.0, tmp_path)
    others = [clip(call, 4.0, tmp_path) for call in shipped]
    alone = Transcript.from_records(replay.segments(fed(ours, "ours"))).to_document()
    company = [fed(others[index % len(others)], f"other-{index}") for index in range(COMPANY)]
    mixed = [r for turn in itertools.zip_longest(*company, fed(ours, "ours")) for r in turn if r is not None]
    among = [record for record in replay.segments(mixed) if record.call_id == "ours"]
    assert all(isinstance(record, CallSegment) for record in among)
    assert alone["segments"]
    assert without_ids(Transcript.from_records(among).to_document()) == without_ids(alone)
