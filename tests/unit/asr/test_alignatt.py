from __future__ import annotations

import pytest

from pipeline.asr.hypothesis import Hypothesis, HypothesisWord
from pipeline.asr.policies.alignatt import AlignAtt
from pipeline.asr.policies.base import Memory


def hypothesis(*frames: tuple[int, ...], end: int, text: str = "word") -> Hypothesis:
    words = tuple(
        HypothesisWord(
            text=text,
            tokens=tuple(range(len(attended))),
            frames=attended,
            end_frame=attended[-1] + 5,
            log_probabilities=(-0.1,) * len(attended),
        )
        for attended in frames
    )
    return Hypothesis(words=words, end_frame=end, no_speech_probability=0.0)


def committed(made: Hypothesis, *, frames: int = 100, is_final: bool = False) -> int:
    return AlignAtt(frame_threshold=25).commit(made, frames=frames, is_final=is_final, memory=Memory())[0]


@pytest.mark.parametrize(
    ("frames", "end", "expected"),
    [
        ([(10,), (30,), (50,)], 60, 3),  # the text ends well before the audio does
        ([(10,), (30,), (50,)], 90, 2),  # something may follow the last word
        ([(10,), (30,), (90,)], 95, 2),  # the last word is too near the end; the one before has a successor
        ([(10,), (70, 80), (90,)], 95, 1),  # one late token holds its word back, and all behind it
        ([(90,), (10,), (20,)], 30, 0),  # order counts: nothing behind a late word
        ([(10,)], 90, 0),
        ([], 100, 0),
    ],
)
def test_words_are_committed_up_to_the_first_late_token(frames: list[tuple[int, ...]], end: int, expected: int) -> None:
    assert committed(hypothesis(*frames, end=end)) == expected


def test_the_end_of_the_utterance_commits_everything() -> None:
    assert committed(hypothesis((10,), (99,), end=100), is_final=True) == 2


def test_half_a_character_is_held_back() -> None:
    assert committed(hypothesis((10,), (20,), end=30, text="\ufffd")) == 0


def test_audio_shorter_than_the_threshold_commits_nothing() -> None:
    assert committed(hypothesis((1,), (2,), end=3), frames=10) == 0


def test_a_longer_audio_commits_no_less() -> None:
    made = hypothesis((10,), (30,), (50,), (70,), end=80)
    counts = [committed(made, frames=frames) for frames in range(200)]
    assert counts == sorted(counts)
    assert counts[-1] == 4
