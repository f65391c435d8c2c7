"""Voice activity as pure logic: audio records in, utterances and watermarks out.

Audio becomes 16 kHz on absolute positions and is scored in windows of 512 samples that start at multiples of 512. Hysteresis
over the scores opens an utterance with pre-roll and closes it after a hangover, at a gap or at its maximum length; silence is
sent on only as watermarks. Windows without an audible sample are silence and are not scored. Positions named ``*_end`` or
``floor`` are 16 kHz positions; ``audio_*`` count at the channel's rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.errors import PoisonError
from pipeline.core.frozen import changed
from pipeline.core.passing import CRASHED, DELETED
from pipeline.core.resample import TAPS_AHEAD, TAPS_BEHIND, double_rate
from pipeline.vad.hysteresis import Walk
from pipeline.vad.state import (
    CONTEXT,
    EMPTY,
    RATE,
    WINDOW,
    ZERO_STATE,
    Samples,
    VadConfig,
    VadResult,
    VadState,
    VadWork,
    decode,
    peak_of,
    probabilities_of,
    work_of,
)
from schemas.codec import decode_plain, encode_plain
from schemas.records import CallAudio, Gap, VadLane

SKIPPED_UTTERANCES = 1_000
PAUSED = "paused"  # kind of a stretch that was not taken in, and its reason
MARGIN = 2 * (CONTEXT + TAPS_BEHIND + TAPS_AHEAD)  # audio before the pre-roll that scoring and the filter look at


class VadLogic:
    """`pipeline.core.contract.FeedLogic` of the vad stage."""

    kinds = frozenset({"audio", "gap"})
    controls = frozenset({"pause", "interrupted", "ended"})

    def __init__(self, config: VadConfig) -> None:
        self._config = config

    def open(self, lane: Lane) -> VadState:
        """Return the state of a lane that has heard nothing."""
        channel = lane.channel
        return VadState(rate=channel.sample_rate_hz, channel=channel.channel, offset=channel.offset_samples)

    def plan(self, state: VadState, record: CallAudio) -> Step[VadState, VadWork]:
        """Take in an audio or gap record of the lane, or a control record of the call."""
        state = changed(state, is_fresh=False)
        if record.kind == "audio":
            return self._plan_audio(state, record)
        if record.kind in ("pause", "interrupted"):
            # Nothing may come for long: what is open is closed, and nothing held.
            state = changed(state, is_paused=state.is_paused or record.kind == "pause")
            return self._flush(state, gap=None, pending=None, end=state.audio_end, is_break=True)
        if record.kind == "ended":
            start = max(state.audio_end, state.offset)
            end = record.ended.end_samples.get(str(state.channel), 0) if record.ended is not None else 0
            gap = Gap(end_sample=end, reason=_absence(state)) if end > start else None
            return self._flush(state, gap=gap, pending=None, end=start)
        if record.gap is None or record.gap.end_sample <= max(state.audio_end, 0):
            return Step(state)
        start = max(state.audio_end, record.start_sample if state.audio_end < 0 else 0, 0)
        return self._flush(state, gap=record.gap, pending=None, end=start)

    def abandon(self, state: VadState, record: CallAudio) -> Step[VadState, VadWork]:
        """Declare a gap from what was sent on, or is known to be silence, up to the end of the record."""
        if record.kind != "audio":
            step = self.plan(state, record)
            if step.work is None:
                return step
            lost = self._lose(state, [(state.audio_end, CRASHED)])
            step = self.plan(lost.state, record)
            return Step(step.state, (*lost.outputs, *step.outputs), step.work)
        state, samples = _taken(state, record)
        start, end = record.start_sample, record.start_sample + len(samples)
        if state.audio_start < 0:
            state = self._begin(state, start)
        losses = [(end, CRASHED)]
        if start > state.audio_end:
            losses = [(state.audio_end, CRASHED), (start, _absence(state)), *losses]
        return self._lose(changed(state, is_paused=state.is_paused and start < state.rebuilt_to), losses)

    def apply(self, state: VadState, work: VadWork, result: VadResult) -> Step[VadState, VadWork]:
        """Take in the scores of ``work``."""
        state = changed(state, hidden=result.hidden, cell=result.cell)
        return self._walk(state, work, probabilities_of(work, result.probabilities))

    def snapshot(self, state: VadState) -> Snapshot | None:
        """Return the state where no utterance is open or about to open, and where one follows another without silence."""
        is_open = state.open_start is not None and not (state.is_continuing and state.is_fresh)
        if is_open or state.run_start is not None or state.is_rebuilding:
            return None
        needed = self._needed_from(state) // state.ratio
        lane = VadLane(
            audio_start=state.audio_start,
            audio_end=state.audio_end,
            scored_end=state.scored_end,
            hidden=state.hidden,
            cell=state.cell,
            utterance=state.utterance,
            watermark=state.watermark,
            floor=state.floor,
            is_paused=state.is_paused,
            is_continuing=state.is_continuing,
            open_start=state.open_start,
            sent_end=state.sent_end,
            speech_end=state.speech_end,
            is_first=state.is_first,
            speech_start=state.speech_start,
        )
        return Snapshot(
            data=encode_plain(lane),
            needed_sequence=next((sequence for sequence, end in state.pieces if end > needed), None),
        )

    def restore(self, lane: Lane, data: bytes) -> VadState:
        """Return the state of a snapshot; its audio is rebuilt from the records that follow."""
        saved = decode_plain(data, VadLane)
        return VadState(
            rate=lane.channel.sample_rate_hz,
            channel=lane.channel.channel,
            offset=lane.channel.offset_samples,
            audio_start=saved.audio_start,
            audio_end=saved.audio_end,
            scored_end=saved.scored_end,
            hidden=saved.hidden,
            cell=saved.cell,
            utterance=saved.utterance,
            watermark=saved.watermark,
            floor=saved.floor,
            is_paused=saved.is_paused,
            audio_from=max(saved.audio_end, 0) * (RATE // lane.channel.sample_rate_hz),
            is_continuing=saved.is_continuing,
            open_start=saved.open_start,
            sent_end=saved.sent_end,
            speech_end=saved.speech_end,
            is_first=saved.is_first,
            speech_start=saved.speech_start,
            is_rebuilding=saved.audio_end > saved.audio_start,
            rebuilt_to=saved.audio_end,
        )

    def read_to(self, state: VadState) -> int:
        """Return the end of the audio that the lane has read, in samples at the channel's rate."""
        return max(state.audio_end, 0)

    # -- audio in ------------------------------------------------------------------------------------------------

    def _plan_audio(self, state: VadState, record: CallAudio) -> Step[VadState, VadWork]:
        state, samples = _taken(state, record)
        start, end = record.start_sample, record.start_sample + len(samples)
        if state.audio_start >= 0 and start > state.audio_end:
            gap = Gap(end_sample=start, reason=_absence(state))
            return self._flush(state, gap=gap, pending=record, end=state.audio_end)
        if state.audio_start < 0:
            state = self._begin(state, start)
        state = self._append(changed(state, is_paused=state.is_paused and start < state.rebuilt_to), samples)
        state = changed(state, audio_end=end, pieces=(*state.pieces, (record.sequence, end)))
        return self._score(state)

    def _begin(self, state: VadState, start: int) -> VadState:
        """Return the state of a lane whose audio begins at ``start``, at first or after a gap."""
        position = start * state.ratio
        first_window = -(-position // WINDOW) * WINDOW
        return changed(
            state,
            audio_start=start,
            audio_end=start,
            source=EMPTY,
            audio=EMPTY,
            audio_from=position,
            pieces=(),
            scored_end=first_window,
            hidden=ZERO_STATE,
            cell=ZERO_STATE,
            floor=position,
            run_start=None,
            is_continuing=False,
            is_rebuilding=False,
        )

    def _append(self, state: VadState, samples: Samples) -> VadState:
        """Convert ``samples`` to 16 kHz behind the audio already there; the filter keeps the last 16 back."""
        if state.ratio == 1:
            return changed(state, audio=np.concatenate([state.audio, samples]))
        source = state.source if len(state.source) else np.zeros(TAPS_BEHIND, dtype=np.int16)
        source = np.concatenate([source, samples])
        if len(source) <= TAPS_BEHIND + TAPS_AHEAD:
            return changed(state, source=source)
        converted = double_rate(source)
        return changed(
            state, audio=np.concatenate([state.audio, converted]), source=source[-(TAPS_BEHIND + TAPS_AHEAD) :]
        )

    def _score(self, state: VadState) -> Step[VadState, VadWork]:
        """Return the step that scores every complete window."""
        count = (state.audio_from + len(state.audio) - state.scored_end) // WINDOW
        return self._ask(state, work_of(state, count, self._config.silence_peak)) if count > 0 else Step(state)

    def _ask(self, state: VadState, work: VadWork) -> Step[VadState, VadWork]:
        """Return the step that has the audible windows scored, if there are any."""
        return Step(state, work=work) if len(work.windows) else self._walk(state, work, [0.0] * len(work.is_audible))

    def _walk(self, state: VadState, work: VadWork, probabilities: Sequence[float]) -> Step[VadState, VadWork]:
        """Return the step behind the windows of ``work``."""
        outputs: list[Draft] = []
        walk = Walk(state, self._config, outputs)
        for probability in probabilities:
            walk.advance(probability, work.flush_to)
        if work.flush_to is None:
            return Step(self._trim(walk.state()), tuple(outputs))
        return self._finish(walk.state(), work.flush_to, work.gap, work.pending, outputs, is_break=work.is_break)

    def _flush(
        self, state: VadState, *, gap: Gap | None, pending: CallAudio | None, end: int, is_break: bool = False
    ) -> Step[VadState, VadWork]:
        """Return the step that scores the rest of a stretch of audio, closes it, and goes on behind it."""
        if state.audio_start < 0 or state.is_rebuilding:
            return self._finish(state, max(end, 0) * state.ratio, gap, pending, [], is_break=is_break)
        flush_to = state.audio_end * state.ratio
        if state.scored_end < state.audio_from:  # the audio that a restored lane still needed is gone
            return self._finish(changed(state, scored_end=flush_to), flush_to, gap, pending, [], is_break=is_break)
        if state.ratio > 1:
            state = self._append(state, np.zeros(TAPS_AHEAD, dtype=np.int16))
        rest = -(flush_to - state.scored_end) % WINDOW if flush_to > state.scored_end else 0
        audio = state.audio[: flush_to - state.audio_from]
        state = changed(state, audio=np.concatenate([audio, np.zeros(rest, dtype=np.int16)]))
        count = (state.audio_from + len(state.audio) - state.scored_end) // WINDOW
        if count <= 0:
            return self._finish(state, flush_to, gap, pending, [], is_break=is_break)
        work = work_of(state, count, self._config.silence_peak)
        return self._ask(state, replace(work, flush_to=flush_to, gap=gap, pending=pending, is_break=is_break))

    def _finish(
        self,
        state: VadState,
        flush_to: int,
        gap: Gap | None,
        pending: CallAudio | None,
        outputs: list[Draft],
        *,
        is_break: bool,
    ) -> Step[VadState, VadWork]:
        """Close what is open at ``flush_to``, declare the gap, and take in the pending record."""
        if state.open_start is not None or state.run_start is not None:
            walk = Walk(state, self._config, outputs)
            if walk.open_start is None:
                walk.open()
            walk.close(flush_to, is_cut_off=True)
            state = walk.state()
        elif flush_to > state.watermark:
            outputs.append(Draft(kind="watermark", start_sample=flush_to // state.ratio))
            state = changed(state, watermark=flush_to)
        if gap is not None:
            kind = PAUSED if gap.reason == PAUSED else "gap"
            outputs.append(Draft(kind=kind, start_sample=flush_to // state.ratio, body={"gap": gap}))
            state = self._begin(state, gap.end_sample)
            if gap.reason == DELETED:  # utterances that were written from what is gone have had the next numbers
                state = changed(state, utterance=state.utterance + SKIPPED_UTTERANCES)
        elif pending is not None or (is_break and state.audio_start >= 0):
            state = self._begin(state, state.audio_end if pending is None else pending.start_sample)
        if pending is None:
            return Step(self._trim(state), tuple(outputs))
        step = self._plan_audio(state, pending)
        return Step(step.state, (*outputs, *step.outputs), step.work)

    def _lose(self, state: VadState, losses: Sequence[tuple[int, str]]) -> Step[VadState, VadWork]:
        """Let go of the audio that nothing was said of, and declare gaps: (end, reason), each from the end of the one before."""
        outputs: list[Draft] = []
        if state.audio_start >= 0:
            quiet_to = state.scored_end if state.run_start is None else state.run_start
            quiet_to = max(min(quiet_to, state.audio_end * state.ratio), state.floor, state.watermark)
            said_to = quiet_to if state.open_start is None else state.sent_end
            if state.open_start is not None and not state.is_first:
                walk = Walk(state, self._config, outputs)
                walk.close(said_to, is_cut_off=True)
                state = walk.state()
            state = self._begin(
                changed(state, open_start=None, is_fresh=False, is_rebuilding=False), said_to // state.ratio
            )
        for end, reason in losses:
            if state.audio_end < end:
                gap = Gap(end_sample=end, reason=reason)
                step = self._finish(state, max(state.audio_end, 0) * state.ratio, gap, None, [], is_break=False)
                state, outputs = step.state, [*outputs, *step.outputs]
        is_before = state.audio_end > losses[-1][0]  # the record was taken in before a restart
        return Step(changed(state, is_rebuilding=is_before), tuple(outputs))

    # -- buffers -------------------------------------------------------------------------------------------------

    def _needed_from(self, state: VadState) -> int:
        """Return the 16 kHz position from which audio is needed to go on."""
        if state.open_start is not None:
            return min(state.sent_end, state.scored_end) - MARGIN
        if state.is_continuing:
            return min(state.floor, state.scored_end) - MARGIN
        quiet_to = state.run_start if state.run_start is not None else state.scored_end
        return min(max(quiet_to - self._config.pre_roll, state.floor), state.scored_end) - MARGIN

    def _trim(self, state: VadState) -> VadState:
        """Drop audio nobody will look at again."""
        needed = self._needed_from(state)
        cut = max(0, min(needed - state.audio_from, len(state.audio)))
        pieces = tuple(piece for piece in state.pieces if piece[1] > needed // state.ratio)
        return changed(state, audio=state.audio[cut:].copy(), audio_from=state.audio_from + cut, pieces=pieces)


def _taken(state: VadState, record: CallAudio) -> tuple[VadState, Samples]:
    """Return the state that expects an audio record, and the record's samples. Raises PoisonError."""
    samples, start = decode(record, state.rate), record.start_sample
    if start < 0:
        raise PoisonError(f"audio record {record.sequence} starts at sample {start}")
    if state.is_rebuilding and start < state.audio_end:
        state = changed(state, audio_end=start, audio=EMPTY, source=EMPTY, audio_from=start * state.ratio)
    if state.audio_start >= 0 and start < state.audio_end:
        raise PoisonError(
            f"audio record {record.sequence} starts at sample {start}, below the end of its predecessor at {state.audio_end}"
        )
    return changed(state, is_rebuilding=False), samples


def _absence(state: VadState) -> str:
    """Return why there is no audio behind what the lane has heard."""
    return PAUSED if state.is_paused else "missing_audio"


def make(settings: Any) -> VadLogic:
    """Return the logic for the ``vad`` section of the settings."""
    return VadLogic(
        VadConfig(
            threshold=settings.threshold,
            negative_threshold=settings.negative_threshold,
            pre_roll=round(settings.pre_roll_seconds * RATE) // 2 * 2,
            hangover=round(settings.hangover_seconds * RATE),
            min_speech=round(settings.min_speech_seconds * RATE),
            max_utterance=round(settings.max_utterance_seconds * RATE),
            watermark=round(settings.watermark_seconds * RATE),
            pause=round(settings.pause_seconds * RATE),
            piece=round(settings.piece_seconds * RATE) // 2 * 2,
            silence_peak=peak_of(settings.silence_dbfs),
        )
    )
