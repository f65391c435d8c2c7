from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pipeline.asr import logic
from pipeline.asr.hypothesis import AsrWork, Hypothesis, HypothesisWord
from pipeline.asr.profiles import Catalogue
from pipeline.core.contract import Lane
from pipeline.core.errors import PoisonError
from pipeline.runtime.settings import AsrSettings
from schemas.codec import decode_plain
from schemas.records import AsrLane, CallAnnotation, CallSpeech, Channel, Gap, Interrupted, Settings, Speech, Started
from tests.fakes import ASR, CALL, PROFILE, Call, ScriptedAsr, asr_logic, outputs_of, run, run_chain, said, stages
from tests.transcripts import words_of

STEP = 8_000

CHANNEL = Channel(channel=0, role="agent", sample_rate_hz=16_000, encoding="pcm_s16le", language=None, offset_samples=0)
LANE = Lane(channel=CHANNEL, started=Started(channels=(CHANNEL,), hot_words=("brand",), prompt="names"))
HELLO = Call(script={0: said("hello there how are you", at=0.4)}, seconds=4.0)


def heard(call: Call, **changes: Any) -> tuple[list[CallAnnotation], ScriptedAsr]:
    """Return what asr writes for lane 0, and the engine it asked."""
    config = {name: changes.pop(name) for name in ("window", "tentative", "longest") if name in changes}
    stage = stages(call, asr=replace(ASR, **config), profile=replace(PROFILE, **changes))["asr"]
    made = outputs_of(run(stage, run_chain(call).outputs["vad"]))
    return [record for record in made if record.channel == 0], stage.engine  # type: ignore[return-value]


def committed(made: Sequence[CallAnnotation]) -> list[CallAnnotation]:
    return [record for record in made if record.words is not None]


def texts(made: Sequence[CallAnnotation]) -> list[str]:
    return [word.text for record in committed(made) for word in record.words.words]


def piece(sequence: int, start: int, samples: int, *, utterance: int = 0, is_last: bool = False) -> CallSpeech:
    """Return a piece of silence at 16 kHz."""
    speech = Speech(
        utterance=utterance, is_first=False, is_last=is_last, is_continuation=False, audio=bytes(2 * samples)
    )
    return CallSpeech(
        call_id=CALL,
        kind="speech",
        channel=0,
        sequence=sequence,
        start_sample=start,
        sample_rate_hz=16_000,
        capture_time_ms=0,
        speech=speech,
    )


def control(kind: str, **body: Any) -> CallSpeech:
    return replace(piece(0, 0, 0), kind=kind, channel=-1, speech=None, **body)


class Saying:
    """An engine that answers with prepared hypotheses, one after the other."""

    def __init__(self, *answers: Sequence[HypothesisWord]) -> None:
        self.answers = list(answers)
        self.asked: list[AsrWork] = []

    def __call__(self, work: AsrWork) -> Hypothesis:
        self.asked.append(work)
        words = tuple(self.answers.pop(0)) if self.answers else ()
        end = words[-1].end_frame if words else work.frames
        return Hypothesis(words=words, end_frame=end, no_speech_probability=0.0)


def word(text: str, first: int, end: int, *, joined: bool = False, score: float = -0.1) -> HypothesisWord:
    return HypothesisWord(
        text=text,
        tokens=(hash(text) % 1_000,),
        frames=(first,),
        end_frame=end,
        log_probabilities=(score,),
        is_joined=joined,
    )


def follow(asr: logic.AsrLogic, given: Lane, engine: Any, *records: Any) -> tuple[logic.AsrState, list[Any]]:
    state, drafts = asr.open(given), []
    for record in records:
        step = asr.plan(state, record)
        drafts += step.outputs
        while step.work is not None:
            step = asr.apply(step.state, step.work, engine(step.work))
            drafts += step.outputs
        state = step.state
    return state, drafts


def drive(engine: Saying, *records: CallSpeech, config: logic.AsrConfig = ASR) -> tuple[logic.AsrState, list[Any]]:
    """Run records through the logic alone; return the state and the drafts."""
    return follow(asr_logic(config), LANE, engine, *records)


def test_words_are_committed_while_the_caller_still_talks() -> None:
    call = Call(script={0: said("one two three four five six seven eight nine ten", at=0.4)}, seconds=5.0)
    made, _ = heard(call)
    assert texts(made) == [w.text for w in call.script[0]]
    assert len([record for record in committed(made) if not record.words.is_last]) >= 3


def test_committed_words_never_change_and_are_in_order() -> None:
    made, _ = heard(HELLO)
    ends = 0
    for record in committed(made):
        for timed in record.words.words:
            assert ends <= timed.start_sample <= timed.end_sample
            ends = timed.end_sample
        assert record.words.watermark_sample >= ends


def test_words_lie_where_they_were_said() -> None:
    made, _ = heard(HELLO)
    for timed, word_said in zip(
        [w for record in committed(made) for w in record.words.words], HELLO.script[0], strict=True
    ):
        assert abs(timed.start_sample / 8_000 - word_said.start) <= 0.04
        assert abs(timed.end_sample / 8_000 - word_said.end) <= 0.04


def test_the_tail_is_published_apart_and_takes_no_number() -> None:
    made, _ = heard(HELLO)
    tails = [record for record in made if record.tail is not None]
    assert tails
    counted = [record.sequence for record in made if record.tail is None]
    assert counted == list(range(len(counted)))


def test_committed_tokens_are_forced_on_the_next_window() -> None:
    _, engine = heard(HELLO)
    prefixes = [window.prefix for window in engine.windows if not window.is_final]
    assert any(prefixes)
    for before, after in pairwise(prefixes):
        assert after[: len(before)] == before


def test_windows_end_at_multiples_of_the_step() -> None:
    _, engine = heard(Call(script={0: said("word " * 9, at=0.4)}, seconds=5.0))
    lengths = [len(window.audio) for window in engine.windows if not window.is_final]
    *steps, in_the_pause = lengths
    assert steps == [STEP * (i + 1) for i in range(len(steps))]
    assert STEP * len(steps) < in_the_pause <= STEP * (len(steps) + 1)


def test_a_long_window_is_cut_at_a_sentence_end_and_its_tokens_become_prompt() -> None:
    script = said("one two three four five. six seven eight nine ten eleven twelve", at=0.4)
    made, engine = heard(Call(script={0: script}, seconds=6.0), window=32_000)
    assert texts(made) == [w.text for w in script]
    cut = next(i for i, window in enumerate(engine.windows) if window.prompt_tokens)
    assert engine.windows[cut].prompt_tokens == tuple(range(10))
    assert len(engine.windows[cut].audio) < len(engine.windows[cut - 1].audio)


def test_a_window_without_a_sentence_end_is_cut_at_twice_the_length() -> None:
    script = said("word " * 14, at=0.4)
    _, engine = heard(Call(script={0: script}, seconds=6.0), window=24_000)
    assert max(len(window.audio) for window in engine.windows) <= 2 * 24_000 + STEP


def test_prompt_tokens_are_bounded_and_can_be_off() -> None:
    call = Call(script={0: said("a b c d e f g h i.", at=0.4) + said("j k.", at=5.0)}, seconds=7.0)
    _, engine = heard(call, prompt_tokens=4)
    assert engine.windows[-1].prompt_tokens == (14, 15, 16, 17)
    _, engine = heard(call, prompt_tokens=0)
    assert engine.windows[-1].prompt_tokens == ()


def test_the_end_of_an_utterance_commits_the_rest() -> None:
    made, engine = heard(HELLO)
    last = committed(made)[-1].words
    assert last.is_last
    assert texts(made) == [w.text for w in HELLO.script[0]]
    assert not any(window.is_final for window in engine.windows)  # the pass in the pause had said it all
    assert (last.model, last.policy, last.language) == ("scripted@1", "alignatt", "en")


def test_an_utterance_without_words_is_closed() -> None:
    state, drafts = drive(Saying(), piece(0, 0, 3_200), piece(1, 3_200, 1_000, is_last=True))
    assert [(d.kind, d.body["words"].is_last, d.body["words"].words) for d in drafts] == [("words", True, ())]
    assert not state.is_open


def test_an_utterance_shorter_than_a_frame_asks_for_nothing() -> None:
    engine = Saying()
    _, drafts = drive(engine, piece(0, 100, 200, is_last=True))
    assert not engine.asked
    assert drafts[0].body["words"].watermark_sample == 300


def test_refused_text_is_visible_and_not_committed() -> None:
    engine = Saying([word("nonsense", 1, 20, score=-9.0)])
    _, drafts = drive(engine, piece(0, 0, 6_400, is_last=True))
    body = drafts[-1].body["words"]
    assert body.words == ()
    assert [(r.start_sample, r.end_sample, r.reason) for r in body.rejected] == [(0, 6_400, "log_probability")]


def test_a_first_word_is_not_stretched_over_the_silence_before_it() -> None:
    answer = [word("late", 0, 30), word("words", 30, 38), word("here", 38, 46)]
    _, drafts = drive(Saying(answer), piece(0, 0, 3_200), piece(1, 3_200, 14_800 - 3_200, is_last=True))
    first = next(d.body["words"].words[0] for d in drafts if d.kind == "words" and d.body["words"].words)
    assert (first.start_sample, first.end_sample) == ((30 - 16) * 320, 30 * 320)


def test_joined_words_keep_their_place() -> None:
    answer = [word("東", 1, 8), word("京", 8, 16, joined=True)]
    _, drafts = drive(Saying(answer), piece(0, 0, 6_400, is_last=True))
    assert [w.is_joined for w in drafts[-1].body["words"].words] == [False, True]


def test_settings_prompt_and_hot_words_reach_the_model() -> None:
    engine = Saying()
    change = Settings(language="de", prompt=None, hot_words=("x", "y"))
    drive(
        engine,
        piece(0, 0, 3_200, is_last=True),
        control("settings", settings=change),
        piece(1, 5_000, 3_200, is_last=True),
    )
    first, second = engine.asked
    assert (first.language, first.prompt, first.hot_words) == ("en", "names", ("brand",))
    assert (second.language, second.prompt, second.hot_words) == ("de", "names", ("x", "y"))


def test_clear_forgets_the_text_before() -> None:
    asr = asr_logic()
    state = replace(asr.open(LANE), prompt_tokens=(1, 2))
    assert asr.plan(state, control("clear")).state.prompt_tokens == ()


def test_a_gap_between_utterances_is_passed_on() -> None:
    gap = Gap(end_sample=9_000, reason="missing_audio")
    record = replace(piece(1, 5_000, 0), kind="gap", gap=gap, speech=None)
    _, drafts = drive(Saying(), piece(0, 0, 3_200, is_last=True), record)
    assert [(d.kind, d.start_sample, d.body.get("gap")) for d in drafts][-1] == ("gap", 5_000, gap)


def test_the_end_of_the_call_closes_what_is_open() -> None:
    engine = Saying()
    state, drafts = drive(engine, piece(0, 0, 3_200), control("ended"))
    assert not state.is_open
    assert drafts[-1].body["words"].is_last


@pytest.mark.parametrize(
    "record",
    [
        replace(piece(1, 3_200, 0), speech=None),
        replace(piece(1, 3_200, 0), speech=replace(piece(1, 3_200, 1).speech, audio=b"\0")),
        piece(1, 3_300, 100),
        piece(1, 3_200, 100, utterance=1),
    ],
)
def test_speech_that_does_not_continue_is_poison(record: CallSpeech) -> None:
    with pytest.raises(PoisonError):
        drive(Saying(), piece(0, 0, 3_200), record)


def test_a_state_of_another_model_keeps_all_but_its_tokens() -> None:
    asr = asr_logic()
    state = replace(asr.open(LANE), prompt_tokens=(1, 2), language="de", utterance=7)
    snapshot = asr.snapshot(state)
    assert snapshot is not None
    assert decode_plain(snapshot.data, AsrLane).model == PROFILE.revision
    same = asr.restore(LANE, snapshot.data)
    assert (same.prompt_tokens, same.language, same.utterance) == ((1, 2), "de", 7)
    other = asr_logic(ASR, replace(PROFILE, revision="other@2")).restore(LANE, snapshot.data)
    assert (other.prompt_tokens, other.language, other.utterance) == ((), "de", 7)


def test_an_open_utterance_cannot_be_resumed() -> None:
    asr = asr_logic()
    assert asr.snapshot(asr.plan(asr.open(LANE), piece(0, 0, 100)).state) is None


def test_settings_are_seconds() -> None:
    settings = AsrSettings(tentative_seconds=0.5, window_seconds=10)
    config = logic.make(settings, Catalogue(default="x", profiles={}))._config
    assert (config.tentative, config.window) == (8_000, 160_000)


def test_both_channels_are_transcribed() -> None:
    call = Call(script={0: said("one two", at=0.4), 1: said("three four", at=0.5)}, seconds=3.0)
    segments = run_chain(call).segments
    assert (words_of(segments, 0), words_of(segments, 1)) == (["one", "two"], ["three", "four"])
    assert np.all([record.segment.role in ("agent", "customer") for record in segments if record.segment])


def bounds(made: Sequence[CallAnnotation]) -> list[tuple[int, int]]:
    """Return the bounds of speech at breaks, of every utterance."""
    last = [record.words for record in committed(made) if record.words and record.words.is_last]
    return [(words.speech_start_sample, words.speech_end_sample) for words in last]


def test_words_say_where_speech_was_at_a_break() -> None:
    controls = ((1.5, "interrupted", {"interrupted": Interrupted(reason="idle")}),)
    call = Call(script={0: said("one two", at=0.5, word_seconds=1.0)}, seconds=4.0, controls=controls)
    first, second = bounds(heard(call)[0])
    assert first == (-1, 12_000)
    assert 12_000 <= second[0] < 12_600
    assert second[1] == -1
    assert bounds(heard(replace(call, controls=()))[0]) == [(-1, -1)]


def test_an_utterance_of_which_everything_is_committed_is_not_cut_off() -> None:
    controls = ((1.2, "interrupted", {"interrupted": Interrupted(reason="idle")}),)
    call = Call(script={0: said("one", at=0.4)}, seconds=3.0, controls=controls)
    assert bounds(heard(call)[0]) == [(-1, -1)]


def test_an_utterance_whose_rest_is_lost_is_cut_off_and_begins_again_at_a_break() -> None:
    log = run_chain(HELLO).outputs["vad"]
    lost = [record for record in log if record.speech][2]
    made = outputs_of(run(stages(HELLO)["asr"], [record for record in log if record is not lost]))
    first, second = bounds(made)
    assert (first[0], second[1]) == (-1, -1)
    assert first[1] == lost.start_sample
    assert second[0] > lost.start_sample
