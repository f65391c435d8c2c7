"""Who spoke, as pure logic.

Separate channels need no model: the channel is the speaker. One open-ended turn with an unbounded watermark says so, and
the audio of such a channel is skipped by record header before it reaches this code.

A mixed channel is heard: every step the models are given the last seconds of audio, and say who of the speakers in it (local to the
window) speaks when, and how their voices sound. Clustering says who of the call they are. What several windows have heard of a frame
is added up until it lies ``latency`` behind, then it is final: turns, and the watermark behind them. The end of an utterance makes all
of it final. Steps lie on multiples of ``step`` since the start of the call, so record sizes and restarts change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.frozen import changed
from pipeline.core.speakers import MIXED, UNBOUNDED, UNKNOWN, open_turn
from pipeline.diarize.clustering import Local, assign, learn
from pipeline.diarize.enrolment import Enrolled, changes, recognise
from pipeline.diarize.partition import ClusteringConfig
from pipeline.diarize.pending import Pending
from pipeline.diarize.points import Voices, from_bytes, label_of, rounded, to_bytes
from pipeline.diarize.state import DiarizeState, forget, heard, listen
from pipeline.diarize.turns import Run, extend
from pipeline.diarize.window import (
    FRAME,
    FRAMES_PER_SECOND,
    RATE,
    DiarizeWork,
    Failure,
    Heard,
    active_of,
    clean_of,
)
from schemas.codec import CodecError, decode_plain, encode_plain
from schemas.records import CallSpeech, Degraded, DiarizeLane, Turn, Turns

CHANNEL, DIART = "channel", "diart"
EDGE = 25  # frames: what is said at the end of a window is heard better in the next


@dataclass(frozen=True, slots=True, kw_only=True)
class DiarizeConfig:
    """How mixed channels are heard. Lengths in 16 kHz samples, whole frames.

    ``model`` names the models. A local speaker whose score is ``threshold`` speaks.
    """

    model: str
    window: int
    step: int
    latency: int
    threshold: float
    clean_seconds: float
    clustering: ClusteringConfig
    enrolled: Enrolled | None = None


class DiarizeLogic:
    """`pipeline.core.contract.LaneLogic` of the diarize stage.

    Without a ``config`` it is the ``channel`` engine, which knows nobody on a mixed channel; ``absence`` is the reason that such a
    call is then marked degraded with, if any.
    """

    kinds = frozenset({"speech", "watermark", "gap"})
    controls = frozenset({"started", "ended"})

    def __init__(self, config: DiarizeConfig | None = None, *, absence: str = "") -> None:
        self._config = config
        self._absence = absence

    def open(self, lane: Lane) -> DiarizeState:
        """Return the state of a lane that has heard nothing."""
        is_heard = self._config is not None and lane.channel.role == MIXED
        state = DiarizeState(
            rate=lane.channel.sample_rate_hz,
            turn=open_turn(lane.channel),
            is_heard=is_heard,
            heard_to=lane.channel.offset_samples * (RATE // lane.channel.sample_rate_hz),
        )
        if self._config is None or not is_heard:
            return state
        fewest, most = lane.started.min_speakers, lane.started.max_speakers
        clustering = self._config.clustering
        most = clustering.max_speakers if most is None else most
        fewest = min(clustering.min_speakers if fewest is None else fewest, most)
        return changed(state, min_speakers=fewest, max_speakers=most)

    def plan(self, state: DiarizeState, record: CallSpeech) -> Step[DiarizeState, DiarizeWork]:
        """Take in a piece of speech, a watermark or a gap of the lane, or the start or the end of the call."""
        if not state.is_heard or self._config is None:
            return self._plan_unheard(state, record)
        if record.kind == "speech":
            return self._next(listen(state, record, window=self._config.window, step=self._config.step))
        if record.kind == "started":
            return Step(state)
        if state.is_open:  # the rest of the utterance was lost on the way
            return self._next(changed(state, end=state.audio_end, behind=_copied(state, record)))
        behind = _copied(state, record)
        position = max(state.heard_to, record.start_sample * state.ratio)
        if record.kind == "watermark":
            state = forget(state, window=self._config.window, position=position)
            state = changed(state, heard_to=position, learned_to=max(state.learned_to, -(-position // FRAME)))
        return Step(state, behind)

    def abandon(self, state: DiarizeState, record: CallSpeech) -> Step[DiarizeState, DiarizeWork]:
        """Take in one record without the models: who speaks up to its end, and is not known yet, stays unknown."""
        if not state.is_heard or self._config is None:
            return self._plan_unheard(state, record)
        behind: tuple[Draft, ...] = ()
        if record.kind == "speech":
            state = listen(state, record, window=self._config.window, step=self._config.step)
        else:
            behind = _copied(state, record)
        if not state.is_open:
            return Step(state, behind)
        step = self._settle(state, state.audio_end, is_end=True)
        return Step(changed(step.state, behind=()), (*step.outputs, *state.behind, *behind))

    def apply(self, state: DiarizeState, work: DiarizeWork, result: Heard | Failure) -> Step[DiarizeState, DiarizeWork]:
        """Take in what the models say of a window, or that they failed: then nobody knows who speaks in what only it heard."""
        assert self._config is not None
        outputs: tuple[Draft, ...] = ()
        if isinstance(result, Heard) and not np.isfinite(result.scores).all():
            result = Failure(reason="non_finite_scores")
        if isinstance(result, Failure):
            if state.failure != result.reason:
                outputs = (_degraded(state, work.position, f"diarization_failed:{result.reason}"),)
            state = changed(state, failure=result.reason)
        else:
            state = self._hear(changed(state, failure=""), work, result)
        until = work.position if work.is_final else work.position - self._config.latency
        step = self._settle(state, until, is_end=work.is_final, position=work.position)
        if work.is_final:
            return Step(changed(step.state, behind=()), (*outputs, *step.outputs, *state.behind))
        then = self._next(changed(step.state, next_step=work.position + self._config.step))
        return Step(then.state, (*outputs, *step.outputs, *then.outputs), then.work)

    def snapshot(self, state: DiarizeState) -> Snapshot | None:
        """Return the state between utterances; of a lane that is not heard at every position."""
        if state.is_open:
            return None
        config = self._config
        lane = DiarizeLane(
            engine=DIART if state.is_heard else CHANNEL,
            has_written=state.has_written,
            model=config.model if config is not None and state.is_heard else "",
            dimensions=state.voices.points.shape[1],
            points=to_bytes(state.voices) if state.voices.weights else None,
            weights=state.voices.weights,
            labels=state.voices.labels,
            next_label=state.voices.next_label,
            heard_to=state.heard_to,
            failure=state.failure,
            identities=state.identities,
        )
        return Snapshot(data=encode_plain(lane), needed_sequence=state.pieces[0][0] if state.pieces else None)

    def restore(self, lane: Lane, data: bytes) -> DiarizeState:
        """Return the state of a snapshot. Raises CodecError when its points are damaged.

        A lane keeps the engine it began with. Voices that other models heard are forgotten, and their labels are not used again.
        """
        saved = decode_plain(data, DiarizeLane)
        state = changed(self.open(lane), has_written=saved.has_written)
        if saved.engine != DIART:
            return changed(state, is_heard=state.is_heard and not saved.has_written)
        if (
            not state.is_heard or self._config is None
        ):  # diarization was switched off: who speaks from here on is not known
            start = saved.heard_to // state.ratio
            return changed(state, owes_turn=True, turn=replace(state.turn, start_sample=start))
        is_same = saved.model == self._config.model
        try:
            voices = from_bytes(saved.points or b"", saved.dimensions, saved.weights, saved.labels, saved.next_label)
        except ValueError as error:
            raise CodecError(f"the voices of a DiarizeLane: {error}") from error
        return changed(
            state,
            voices=voices if is_same else Voices(next_label=saved.next_label),
            heard_to=saved.heard_to,
            audio_from=saved.heard_to,
            learned_to=-(-saved.heard_to // FRAME),
            failure=saved.failure,
            identities=saved.identities if is_same else (),
        )

    # -- a lane that is not heard --------------------------------------------------------------------------------

    def _plan_unheard(self, state: DiarizeState, record: CallSpeech) -> Step[DiarizeState, DiarizeWork]:
        """Write the channel's turn as soon as the call starts; speech adds nothing to it."""
        if record.kind == "gap" and record.gap is not None:
            return Step(state, _copied(state, record))
        if state.has_written or (record.kind != "started" and not state.owes_turn):
            return Step(state)
        start = state.turn.start_sample
        body = {"turns": Turns(turns=(state.turn,), watermark_sample=UNBOUNDED)}
        outputs = [Draft(kind="turns", start_sample=start, body=body)]
        if state.turn.speaker == UNKNOWN and self._absence:
            outputs.append(_degraded(state, start * state.ratio, self._absence))
        return Step(changed(state, has_written=True, owes_turn=False), tuple(outputs))

    # -- windows -------------------------------------------------------------------------------------------------

    def _next(self, state: DiarizeState) -> Step[DiarizeState, DiarizeWork]:
        """Return the step with the next window to hear, if there is audio for one."""
        assert self._config is not None
        if not state.is_open:
            return Step(state)
        if state.next_step < (state.audio_end if state.end is None else state.end):
            return Step(state, work=self._work(state, state.next_step, is_final=False))
        if state.end is not None:
            last = -(-state.end // FRAME) * FRAME
            return Step(state, work=self._work(state, last, is_final=True))
        if state.next_step == state.audio_end:
            return Step(state, work=self._work(state, state.next_step, is_final=False))
        return Step(state)

    def _work(self, state: DiarizeState, position: int, *, is_final: bool) -> DiarizeWork:
        assert self._config is not None
        return DiarizeWork(
            audio=heard(state, position, self._config.window),
            position=position,
            is_final=is_final,
            decided_to=state.pending.start * FRAME,
        )

    def _hear(self, state: DiarizeState, work: DiarizeWork, result: Heard) -> DiarizeState:
        """Return the state with what the models say of a window: voices, and votes for its frames."""
        config = self._config
        assert config is not None
        limits = replace(config.clustering, min_speakers=state.min_speakers, max_speakers=state.max_speakers)
        active = active_of(result.scores, config.threshold)
        clean, is_clean = clean_of(active, config.clean_seconds)
        seconds = (clean.sum(axis=0) / FRAMES_PER_SECOND).tolist()
        local = Local(active, result.embeddings, tuple(seconds), is_clean, result.owners)
        state = _learned(state, local, limits, work)
        assignment = assign(state.voices, local, limits)
        pending = state.pending.add(
            result.scores, active, assignment, end=work.position // FRAME, speakers=state.voices.next_label - 1
        )
        return changed(state, pending=pending)

    def _settle(
        self, state: DiarizeState, until: int, *, is_end: bool, position: int | None = None
    ) -> Step[DiarizeState, DiarizeWork]:
        """Return the step that makes everything below ``until`` final; ``is_end``: the utterance ends there."""
        assert self._config is not None
        end = until if state.end is None else min(until, state.end)
        pending = state.pending.up_to(-(-end // FRAME) if is_end else state.pending.end, state.voices.next_label - 1)
        rest, labels = pending.settle(-(-until // FRAME))
        runs, fresh = extend(state.runs, labels, start=pending.start, is_end=is_end)
        turns = tuple(_turn(state, run, end) for run in fresh)
        position = until if position is None else position
        state = changed(state, pending=rest, runs=runs)
        watermark = max(min(rest.start * FRAME, end), state.heard_to if not is_end else end)
        if is_end:
            state = changed(
                state,
                is_open=False,
                end=None,
                heard_to=max(end, state.heard_to),
                pending=Pending(),
                runs=(),
                voices=rounded(state.voices),
                learned_to=-(-end // FRAME),
            )
            watermark = end
        state = forget(state, window=self._config.window, position=position)
        now = recognise(state.voices, self._config.enrolled)
        identities = changes(state.identities, now)
        if not turns and not identities and not is_end and watermark <= state.utterance_start:
            return Step(state)
        body = Turns(turns=turns, watermark_sample=watermark // state.ratio, identities=identities)
        at = min(position, state.audio_end if state.end is None else state.end) // state.ratio
        draft = Draft(kind="turns", start_sample=at, body={"turns": body})
        return Step(changed(state, identities=now), (draft,))


def _learned(state: DiarizeState, local: Local, config: ClusteringConfig, work: DiarizeWork) -> DiarizeState:
    """Return the state that has learned from the stretches of a window which it has not learned from and that are not at its edge."""
    first = work.position // FRAME - len(local.active)
    last = work.position // FRAME - (0 if work.is_final else EDGE)
    spans = []
    for one in range(len(local.seconds)):
        frames = np.flatnonzero(local.active[:, one])
        spans.append((first + int(frames[0]), first + int(frames[-1]) + 1, one))
    voices, learned_to = state.voices, state.learned_to
    for begin, end, one in sorted(spans):
        is_new = begin >= state.learned_to and end <= last
        is_enough = local.is_clean[one] and local.is_usable(one) and local.seconds[one] >= config.point_seconds
        if is_new and is_enough:
            voices = learn(voices, local.embeddings[one], local.seconds[one], config)
            learned_to = max(learned_to, end)
    return changed(state, voices=voices, learned_to=learned_to)


def _turn(state: DiarizeState, run: Run, end: int) -> Turn:
    """Return the turn of a run, within the utterance."""
    first = max(run.start * FRAME, state.utterance_start)
    last = min(run.end * FRAME, end)
    speaker = UNKNOWN if run.speaker < 0 else label_of(run.speaker + 1)
    return Turn(speaker=speaker, start_sample=first // state.ratio, end_sample=max(last, first) // state.ratio)


def _copied(state: DiarizeState, record: CallSpeech) -> tuple[Draft, ...]:
    """Return what stands on the output for a watermark or a gap."""
    if record.kind == "watermark" and state.is_heard:
        return (Draft(kind="watermark", start_sample=record.start_sample),)
    if record.gap is not None:
        return (Draft(kind=record.kind, start_sample=record.start_sample, body={"gap": record.gap}),)
    return ()


def _degraded(state: DiarizeState, position: int, reason: str) -> Draft:
    at = position // state.ratio
    body = Degraded(stage="diarize", reason=reason, topic="", partition=-1, offset=at)
    return Draft(kind="degraded", start_sample=at, body={"degraded": body})
