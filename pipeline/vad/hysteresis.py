"""From speech probabilities to utterances: hysteresis with pre-roll, hangover and a longest utterance.

A `Walk` goes over the scored windows of one lane. It is the only mutable thing in the stage and lives within one step: it begins
from a frozen state and ends in one.
"""

from __future__ import annotations

from pipeline.core.contract import Draft
from pipeline.core.frozen import changed
from pipeline.vad.state import WINDOW, VadConfig, VadState
from schemas.records import Speech

SOFT_LIMIT = 0.8  # from this share of the maximum length on, an utterance ends at the first quiet window


class Walk:
    """Moves over windows and collects what there is to say in ``outputs``. Attributes are those of `VadState`."""

    __slots__ = (
        "_config",
        "_state",
        "floor",
        "is_continuing",
        "is_first",
        "is_fresh",
        "open_start",
        "outputs",
        "run_start",
        "scored_end",
        "sent_end",
        "speech_end",
        "speech_start",
        "utterance",
        "watermark",
    )

    def __init__(self, state: VadState, config: VadConfig, outputs: list[Draft]) -> None:
        self._state = state
        self._config = config
        self.outputs = outputs
        self.scored_end = state.scored_end
        self.speech_end = state.speech_end
        self.speech_start = state.speech_start
        self.run_start = state.run_start
        self.open_start = state.open_start
        self.sent_end = state.sent_end
        self.is_first = state.is_first
        self.is_fresh = state.is_fresh
        self.utterance = state.utterance
        self.watermark = state.watermark
        self.floor = state.floor
        self.is_continuing = state.is_continuing

    def state(self) -> VadState:
        """Return the frozen state at this point of the walk."""
        return changed(
            self._state,
            scored_end=self.scored_end,
            speech_end=self.speech_end,
            speech_start=self.speech_start,
            run_start=self.run_start,
            open_start=self.open_start,
            sent_end=self.sent_end,
            is_first=self.is_first,
            is_fresh=self.is_fresh,
            utterance=self.utterance,
            watermark=self.watermark,
            floor=self.floor,
            is_continuing=self.is_continuing,
        )

    def advance(self, probability: float, limit: int | None) -> None:
        """Move over one window. ``limit`` is the end of the real audio when the last window is padded."""
        config = self._config
        start = self.scored_end
        end = self.scored_end = start + WINDOW
        is_idle = self.open_start is None and not self.is_continuing
        is_speech = probability >= (config.threshold if is_idle else config.negative_threshold)
        if is_speech:
            self.speech_end = end
        if self.open_start is None:
            if is_speech:
                if self.run_start is None:
                    self.run_start = start
                if self.is_continuing or end - self.run_start >= config.min_speech:
                    self.open()
            else:
                self.run_start = None
                self.is_continuing = self.is_continuing and end - self.floor < config.hangover
        if self.open_start is None:
            self._mark()
            return
        available = end if limit is None else min(end, limit)
        quiet = end - self.speech_end
        if quiet >= config.pause > quiet - WINDOW and available > self.sent_end:
            self._piece(
                available, is_last=False
            )  # it is a pause from here on, and what was said before it can be committed
        while available - self.sent_end >= config.piece:
            self._piece(self.sent_end + config.piece, is_last=False)
        length = end - self.open_start
        if end - self.speech_end >= config.hangover:
            self.close(available, is_cut_off=False)
        elif length >= config.max_utterance or (length >= SOFT_LIMIT * config.max_utterance and not is_speech):
            self.close(available, is_cut_off=True)
            self.is_continuing = True

    def open(self) -> None:
        """Open an utterance at the run of speech that is under way, with its pre-roll."""
        assert self.run_start is not None
        before = max(self.run_start - self._config.pre_roll, self.floor, self._state.audio_from)
        self.open_start = self.sent_end = self.floor if self.is_continuing else before
        is_at_break = self.is_continuing or self.open_start == self._state.break_end
        lead = self.run_start - self.open_start  # less than a window is what the grid of windows leaves out
        self.speech_start = self.open_start + (lead if lead >= WINDOW else 0) if is_at_break else -1
        self.run_start = None
        self.is_first = self.is_fresh = True

    def close(self, end: int, *, is_cut_off: bool) -> None:
        """Close the open utterance at ``end``, in silence or because the audio or the longest utterance ends there."""
        end = max(end, self.sent_end)
        self._piece(end, is_last=True, is_cut_off=is_cut_off)
        self.open_start = self.run_start = None
        self.utterance += 1
        self.watermark = self.floor = end
        self.is_continuing = False

    def _piece(self, end: int, *, is_last: bool, is_cut_off: bool = False) -> None:
        state = self._state
        audio = state.audio[self.sent_end - state.audio_from : end - state.audio_from]
        speech = Speech(
            utterance=self.utterance,
            is_first=self.is_first,
            is_last=is_last,
            is_continuation=self.is_continuing,
            speech_end_sample=min(self.speech_end, end) // state.ratio,
            speech_start_sample=self.speech_start // state.ratio if self.is_first else -1,
            is_cut_off=is_cut_off,
            audio=audio.astype("<i2").tobytes(),
        )
        self.outputs.append(Draft(kind="speech", start_sample=self.sent_end // state.ratio, body={"speech": speech}))
        self.sent_end = end
        self.is_first = False
        self.speech_start = -1

    def _mark(self) -> None:
        """Publish a watermark when silence has lasted long enough since the last one."""
        quiet_to = self.scored_end if self.run_start is None else self.run_start
        safe = max(quiet_to - self._config.pre_roll, self.floor)
        safe -= safe % self._state.ratio
        if self.is_continuing or safe - self.watermark < self._config.watermark:
            return
        self.outputs.append(Draft(kind="watermark", start_sample=safe // self._state.ratio))
        self.watermark = safe
