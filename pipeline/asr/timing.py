"""From attended frames to sample positions of words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.asr.hypothesis import FRAME, HypothesisWord
from pipeline.asr.state import AsrState
from schemas.records import Word

MEDIAN_LIMIT = 35  # frames; faster-whisper's 0.7 s
SHORTEST_LIMIT = 15


def timed(state: AsrState, fresh: Sequence[HypothesisWord], frames: int, *, is_closing: bool) -> tuple[Word, ...]:
    """Return the words with sample positions at the channel's rate, within the audio, no two with the same start.

    The alignment gives silence before the first word to that word; like faster-whisper, a first word longer than twice the
    median word is shortened from its start. The last frame is kept free for a final word that attends to the very end.
    """
    words: list[Word] = []
    lengths = sorted(word.end_frame - word.frames[0] for word in fresh)
    longest = 2 * min(lengths[len(lengths) // 2], MEDIAN_LIMIT) if lengths else 0
    for index, word in enumerate(fresh):
        is_last = is_closing and index == len(fresh) - 1
        end_frame = min(word.end_frame, frames if is_last else frames - 1)
        start_frame = min(word.frames[0], frames - 1)
        if index == 0 and not state.committed:
            start_frame = max(start_frame, end_frame - max(longest, SHORTEST_LIMIT))
        begin = words[-1].end_sample * state.ratio if words else state.committed_end
        start = max(state.window_start + start_frame * FRAME, begin)
        if words and start // state.ratio <= words[-1].start_sample:
            start = (words[-1].start_sample + 1) * state.ratio
        end = max(state.window_start + end_frame * FRAME, start)
        words.append(
            Word(
                text=word.text,
                start_sample=start // state.ratio,
                end_sample=end // state.ratio,
                probability=math.exp(sum(word.log_probabilities) / len(word.log_probabilities)),
                is_joined=word.is_joined,
            )
        )
    return tuple(words)
