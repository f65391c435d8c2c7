from __future__ import annotations

import pytest

from pipeline.bench.policy.streaming import FedSpeech, Streamed, channel_texts, shown_and_changed, stream
from pipeline.bench.policy.variants import Variant, swept
from pipeline.runtime.settings import Settings
from tests.fakes import Call, ScriptedAsr, said, stages, step
from tests.positions import place_of

CALL = Call(
    script={
        0: said("thank you for calling how can I help you today", at=0.4),
        1: said("hello my bill is wrong.", at=4.5),
    },
    seconds=8.0,
)
STEP_SECONDS = 0.8
ALIGNATT = Variant(policy="alignatt", step_seconds=STEP_SECONDS, frame_threshold=10)


@pytest.fixture(scope="module")
def streamed() -> Streamed:
    return streamed_by(ALIGNATT)


def streamed_by(variant: Variant) -> Streamed:
    return stream(fed(), variant.applied(Settings()), ScriptedAsr(CALL.script))


def fed() -> list[FedSpeech]:
    """Return call.speech of the call, with how much audio had been fed when each record was written."""
    stage = stages(CALL)["vad"]
    flow = stage.flow()
    made = []
    end = 0.0
    for offset, record in enumerate(CALL.records()):
        if record.audio is not None:
            end = (record.start_sample + len(record.audio.data) // 2) / record.sample_rate_hz
        made += [FedSpeech(record=one, fed_seconds=end) for one in step(flow, stage, record, offset).outputs]
    return made


def test_all_words_are_committed_and_stand_in_the_transcript(streamed: Streamed) -> None:
    assert channel_texts(streamed.transcript) == {
        0: "thank you for calling how can I help you today",
        1: "hello my bill is wrong.",
    }
    for channel, script in CALL.script.items():
        words = [word for word in streamed.words if word.channel == channel]
        assert [word.text for word in words] == [word.text for word in script]


def test_a_word_is_committed_at_the_end_of_a_window_that_was_decoded() -> None:
    engine = ScriptedAsr(CALL.script)
    streamed = stream(fed(), ALIGNATT.applied(Settings()), engine)
    places = [(place_of(work.audio), len(work.audio)) for work in engine.windows]
    ends = {(place.channel, (place.start + length) / 16_000) for place, length in places if place is not None}
    committed = {(word.channel, word.window_end_seconds) for word in streamed.words}
    assert committed <= ends
    assert all(sum(channel == one for one, _ in committed) > 1 for channel in CALL.script)


def test_nothing_is_committed_before_the_audio_for_it_was_fed(streamed: Streamed) -> None:
    waits = [word.fed_seconds - word.window_end_seconds for word in streamed.words]
    assert min(waits) >= 0
    for word, spoken in zip((one for one in streamed.words if one.channel == 0), CALL.script[0], strict=True):
        assert word.fed_seconds > spoken.end


def test_alignatt_keeps_its_threshold_back_from_the_end_of_a_window(streamed: Streamed) -> None:
    last = max(word.window_end_seconds for word in streamed.words if word.channel == 0)
    for word, spoken in zip((one for one in streamed.words if one.channel == 0), CALL.script[0], strict=True):
        if word.window_end_seconds < last:
            assert word.window_end_seconds - spoken.start > 10 * 0.02


def test_passes_and_tokens_are_those_of_the_engine(streamed: Streamed) -> None:
    engine = ScriptedAsr(CALL.script)
    again = stream(fed(), ALIGNATT.applied(Settings()), engine)
    assert streamed.passes == again.passes == len(engine.windows)
    assert streamed.tokens == sum(2 * len(one.words) for one in ScriptedAsr(CALL.script).infer(engine.windows))
    assert streamed.cpu_seconds >= 0


def test_the_profile_tells_what_was_in_force(streamed: Streamed) -> None:
    assert streamed.profile is not None
    assert (streamed.profile.policy, streamed.profile.step_seconds, streamed.profile.frame_threshold) == (
        "alignatt",
        STEP_SECONDS,
        10,
    )


def test_local_agreement_commits_later_than_alignatt(streamed: Streamed) -> None:
    agreed = streamed_by(Variant(policy="local_agreement", step_seconds=STEP_SECONDS, agreement=2))
    assert channel_texts(agreed.transcript) == channel_texts(streamed.transcript)
    pairs = list(zip(agreed.words, streamed.words, strict=True))
    assert all(late.window_end_seconds >= early.window_end_seconds for late, early in pairs)
    assert any(late.window_end_seconds > early.window_end_seconds for late, early in pairs)


def test_a_word_that_the_transcript_does_not_hold_at_its_place_is_counted_once(streamed: Streamed) -> None:
    shown = [(word.channel, word.start_seconds, word.end_seconds, word.text) for word in streamed.words]
    assert shown_and_changed(shown, streamed.transcript) == (len(shown), 0)
    channel, start, end, text = shown[0]
    changed = [
        *shown,
        *shown,
        (channel, start, end, text + "s"),
        (channel, start + 0.1, end, text),
        (5, start, end, text),
    ]
    assert shown_and_changed(changed, streamed.transcript) == (len(shown) + 3, 3)


def test_a_variant_changes_only_what_it_names() -> None:
    settings = Settings()
    assert Variant(policy="local_agreement").applied(settings).asr.model_dump(exclude_unset=True) == {
        "policy": "local_agreement"
    }
    changed = Variant(policy="alignatt", step_seconds=0.6, frame_threshold=15).applied(settings)
    assert changed.diarize.engine == "channel", "words alone are measured"
    assert changed.model_dump(exclude={"asr", "diarize"}) == settings.model_dump(exclude={"asr", "diarize"})
    assert (changed.asr.step_seconds, changed.asr.frame_threshold, changed.asr.agreement) == (0.6, 15, None)


def test_the_sweep_varies_the_parameter_of_each_policy() -> None:
    variants = swept(["alignatt", "local_agreement"])
    assert len(set(variants)) == len(variants)
    assert {variant.frame_threshold for variant in variants if variant.policy == "alignatt"} >= {10, 25, 50}
    assert {variant.agreement for variant in variants if variant.policy == "local_agreement"} == {2, 3}
    assert all((variant.agreement is None) == (variant.policy == "alignatt") for variant in variants)
    assert {variant.policy for variant in swept(["alignatt"])} == {"alignatt"}
