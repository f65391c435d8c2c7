"""AlignAtt (Papi, Turchi and Negri, arXiv 2305.11408): a word is safe when it attends away from the end of the audio.

The attended frame of a token comes from one teacher-forced alignment of the whole hypothesis, so the policy needs no
access to the decoder's steps.
"""

from __future__ import annotations

from pipeline.asr.hypothesis import Hypothesis
from pipeline.asr.policies.base import Memory


class AlignAtt:
    """Commits words up to the first token within ``frame_threshold`` frames (20 ms each) of the end of the audio.

    A word is only complete when something follows it: a next word, even a tentative one, or the end of the text well
    before the end of the audio. Otherwise its ending or its punctuation may still come.
    """

    name = "alignatt"

    def __init__(self, *, frame_threshold: int) -> None:
        self._threshold = frame_threshold

    def commit(self, hypothesis: Hypothesis, *, frames: int, is_final: bool, memory: Memory) -> tuple[int, Memory]:
        """Return the number of leading words that are final."""
        words = hypothesis.words
        if is_final:
            return len(words), Memory()
        limit = frames - self._threshold
        safe = 0
        for word in words:
            if any(frame >= limit for frame in word.frames) or "\ufffd" in word.text:
                break
            safe += 1
        if safe == len(words) and hypothesis.end_frame >= limit:
            safe -= 1
        return max(safe, 0), Memory()
