from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.bench.policy.figures import StreamingFigures, offline_errors, streaming_figures, text_errors, total
from pipeline.bench.policy.streaming import CommittedWord, Streamed, Tentative
from pipeline.bench.recordings import Recording, Utterance
from pipeline.bench.word_ends import TrueWord
from pipeline.core.wer import WordErrors
from pipeline.sink.transcript import Transcript, TranscriptSegment, TranscriptWord
from tests.fakes import Call, run_chain, said

RECORDING = Recording(
    name="r",
    path=Path("r.wav"),
    kind="plain",
    roles={0: "agent", 1: "customer"},
    references={
        0: (
            Utterance(start_seconds=0.0, end_seconds=1.0, text="Good morning."),
            Utterance(start_seconds=2.0, end_seconds=3.0, text="How are you?"),
        )
    },
)


def committed(text: str, *, channel: int = 0, at: float = 0.0, window_end: float = 1.0) -> CommittedWord:
    return CommittedWord(
        channel=channel,
        text=text,
        is_joined=False,
        start_seconds=at,
        end_seconds=at + 0.2,
        window_end_seconds=window_end,
        fed_seconds=window_end + 0.125,
    )


def transcript(words: Sequence[CommittedWord]) -> Transcript:
    """Return a transcript with a segment for every word."""
    segments = (
        TranscriptSegment(
            segment_id=f"r/{word.channel}/{index}",
            revision=0,
            channel=word.channel,
            role="agent",
            speaker="agent",
            start_seconds=word.start_seconds,
            end_seconds=word.end_seconds,
            text=word.text,
            language="en",
            model="m",
            policy="p",
            words=(
                TranscriptWord(
                    text=word.text,
                    start_seconds=word.start_seconds,
                    end_seconds=word.end_seconds,
                    probability=1.0,
                    is_joined=False,
                ),
            ),
        )
        for index, word in enumerate(words)
    )
    return Transcript(
        call_id="r",
        state="complete",
        duration_seconds=4.0,
        channels=(),
        segments=tuple(segments),
        gaps=(),
        degraded=(),
    )


def streamed(
    *words: CommittedWord, tails: Sequence[Tentative] = (), kept: Sequence[CommittedWord] | None = None
) -> Streamed:
    return Streamed(
        transcript=transcript(words if kept is None else kept),
        words=words,
        tails=tuple(tails),
        profile=None,
        passes=3,
        tokens=7,
        cpu_seconds=0.25,
    )


def true(text: str, end: float, *, channel: int = 0) -> TrueWord:
    return TrueWord(channel=channel, text=text, start_seconds=end - 0.2, end_seconds=end)


def test_latency_is_from_the_true_end_to_the_end_of_the_window_of_words_heard_right() -> None:
    words = (committed("good", window_end=1.5), committed("mourning", window_end=1.5), committed("how", window_end=3.0))
    truth = [true("Good", 0.5), true("morning.", 0.9), true("How", 2.25), true("good", 0.1, channel=1)]
    figures = streaming_figures(RECORDING, streamed(*words), truth)
    assert (figures.latencies, figures.fed_latencies) == ((1.0, 0.75), (1.125, 0.875))


def test_errors_count_each_channel_with_a_reference_against_its_own() -> None:
    assert text_errors(RECORDING, {0: "good morning how you", 1: "nobody knows"}) == WordErrors(errors=1, words=5)
    assert text_errors(RECORDING, {}) == WordErrors(errors=5, words=5)


def test_a_word_that_was_shown_and_is_not_kept_is_retracted() -> None:
    words = (committed("good"), committed("day", at=0.3))
    figures = streaming_figures(RECORDING, streamed(*words, kept=words[:1]), ())
    assert (figures.shown, figures.retracted) == (2, 1)


def test_tail_words_are_erased_when_others_are_committed_in_their_place() -> None:
    words = [committed(text, at=at) for at, text in enumerate(["good", "morning", "how", "are"])]
    other = committed("elsewhere", channel=1)
    tails = [
        Tentative(channel=0, text="Good mourning", committed=0),
        Tentative(channel=0, text="how", committed=2),
        Tentative(channel=0, text="are you", committed=3),  # "you" was never committed
        Tentative(channel=1, text="", committed=0),
    ]
    figures = streaming_figures(RECORDING, streamed(*words, other, tails=tails), ())
    assert (figures.tail_words, figures.erased) == (5, 2)


def test_figures_of_recordings_add_up() -> None:
    one = StreamingFigures(
        errors=WordErrors(errors=1, words=10),
        latencies=(0.5,),
        shown=9,
        retracted=1,
        tail_words=4,
        erased=2,
        passes=3,
        tokens=20,
        cpu_seconds=0.5,
        degraded={"rejected_text:tone": 1},
    )
    both = total([one, one])
    assert both.errors == WordErrors(errors=2, words=20)
    assert (both.latencies, both.shown, both.retracted, both.tail_words) == ((0.5, 0.5), 18, 2, 8)
    assert (both.erased, both.passes, both.tokens, both.cpu_seconds) == (4, 6, 40, 1.0)
    assert both.degraded == {"rejected_text:tone": 2}


class CountingModel:
    """Hears one word for every tenth of a second of audio."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def decode(self, audio: np.ndarray) -> str:
        assert audio.dtype == np.float32
        assert np.abs(audio).max() <= 1.0
        self.seconds.append(len(audio) / 16_000)
        return "good morning" if len(self.seconds) == 1 else "how are you"


def test_offline_decodes_every_utterance_of_call_speech_at_once() -> None:
    call = Call(script={0: said("one two", at=0.5), 1: ()}, seconds=6.0)
    later = Call(script={0: (*call.script[0], *said("three four", at=3.5)), 1: ()}, seconds=6.0)
    speech = run_chain(later).outputs["vad"]
    model = CountingModel()
    assert offline_errors(RECORDING, speech, model) == WordErrors(errors=0, words=5)  # type: ignore[arg-type]
    pieces = [record.speech for record in speech if record.speech is not None]
    assert len(model.seconds) == len({piece.utterance for piece in pieces}) == 2
    assert sum(model.seconds) == pytest.approx(sum(len(piece.audio) for piece in pieces) / 2 / 16_000)
