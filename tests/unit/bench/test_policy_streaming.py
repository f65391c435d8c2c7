from __future__ import annotations

import pytest

from pipeline.bench.policy.streaming import Streamed, channel_texts, shown_and_changed, stream
from pipeline.bench.policy.variants import Variant, swept
from pipeline.runtime.settings import Settings
from tests.fakes import Call, ScriptedAsr, run_chain, said

CALL = Call(
    script={
        0: said("thank you for calling how can I help you today", at=0.4),
        1: said("hello my bill is wrong.", at=4.5),
    },
    seconds=8.0,
)
STEP_SECONDS = 0.8


@pytest.fixture(scope="module")
def streamed() -> Streamed:
    return streamed_by(Variant(policy="alignatt", step_seconds=STEP_SECONDS, frame_threshold=10))


def streamed_by(variant: Variant) -> Streamed:
    return stream(run_chain(CALL).outputs["vad"], variant.applied(Settings()), ScriptedAsr(CALL.script))


def test_all_words_are_committed_and_stand_in_the_transcript(streamed: Streamed) -> None:
    assert channel_texts(streamed.transcript) == {
        0: "thank you for calling how can I help you today",
        1: "hello my bill is wrong.",
    }
    for channel, script in CALL.script.items():
        words = [word for word in streamed.words if word.channel == channel]
        assert [word.text for word in words] == [word.text for word in script]


def test_a_word_is_committed_by_a_window_that_ends_at_a_step_or_with_its_utterance(streamed: Streamed) -> None:
    pieces = [record for record in run_chain(CALL).outputs["vad"] if record.speech is not None]
    for channel in CALL.script:
        own = [record for record in pieces if record.channel == channel]
        start = own[0].start_sample / own[0].sample_rate_hz
        end = own[-1].start_sample / own[-1].sample_rate_hz + len(own[-1].speech.audio) / 2 / 16_000
        ends = {word.window_end_seconds for word in streamed.words if word.channel == channel}
        assert max(ends) == pytest.approx(end)
        assert len(ends) > 1
        steps = [(at - start) / STEP_SECONDS for at in sorted(ends)[:-1]]
        assert steps == pytest.approx([round(step) for step in steps])


def test_alignatt_keeps_its_threshold_back_from_the_end_of_a_window(streamed: Streamed) -> None:
    last = max(word.window_end_seconds for word in streamed.words if word.channel == 0)
    for word, spoken in zip((one for one in streamed.words if one.channel == 0), CALL.script[0], strict=True):
        if word.window_end_seconds < last:
            assert word.window_end_seconds - spoken.start > 10 * 0.02


def test_passes_and_tokens_are_those_of_the_engine(streamed: Streamed) -> None:
    engine = ScriptedAsr(CALL.script)
    again = stream(
        run_chain(CALL).outputs["vad"],
        Variant(policy="alignatt", step_seconds=STEP_SECONDS, frame_threshold=10).applied(Settings()),
        engine,
    )
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
    assert changed.model_dump(exclude={"asr"}) == settings.model_dump(exclude={"asr"})
    assert (changed.asr.step_seconds, changed.asr.frame_threshold, changed.asr.agreement) == (0.6, 15, None)


def test_the_sweep_varies_the_parameter_of_each_policy() -> None:
    variants = swept(["alignatt", "local_agreement"])
    assert len(set(variants)) == len(variants)
    assert {variant.frame_threshold for variant in variants if variant.policy == "alignatt"} >= {10, 25, 50}
    assert {variant.agreement for variant in variants if variant.policy == "local_agreement"} == {2, 3}
    assert all((variant.agreement is None) == (variant.policy == "alignatt") for variant in variants)
    assert {variant.policy for variant in swept(["alignatt"])} == {"alignatt"}
