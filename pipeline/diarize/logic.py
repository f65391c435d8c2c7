"""Who spoke, as pure logic.

Separate channels need no model: the channel is the speaker. One open-ended turn with an unbounded watermark says so, and
the audio of such a channel is skipped by record header before it reaches this code. On a mixed channel the ``channel`` engine
knows nobody: its turn says ``unknown``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.speakers import UNBOUNDED, open_turn
from schemas.codec import decode_plain, encode_plain
from schemas.records import CallSpeech, DiarizeLane, Turn, Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class DiarizeState:
    """One lane."""

    turn: Turn
    has_written: bool = False


class DiarizeLogic:
    """`pipeline.core.contract.LaneLogic` of the diarize stage with the ``channel`` engine."""

    kinds = frozenset({"speech", "watermark"})
    controls = frozenset({"started"})

    def open(self, lane: Lane) -> DiarizeState:
        """Return the state of a lane that has heard nothing."""
        return DiarizeState(turn=open_turn(lane.channel))

    def plan(self, state: DiarizeState, record: CallSpeech) -> Step[DiarizeState, Any]:
        """Write the channel's turn as soon as the call starts; speech adds nothing to it."""
        if state.has_written or record.kind != "started":
            return Step(state)
        body = {"turns": Turns(turns=(state.turn,), watermark_sample=UNBOUNDED)}
        draft = Draft(kind="turns", start_sample=state.turn.start_sample, body=body)
        return Step(replace(state, has_written=True), (draft,))

    def apply(self, state: DiarizeState, work: Any, result: Any) -> Step[DiarizeState, Any]:
        """Return the state unchanged: the channel engine infers nothing."""
        return Step(state)

    def snapshot(self, state: DiarizeState) -> Snapshot:
        """Return the state; every position can be resumed."""
        return Snapshot(data=encode_plain(DiarizeLane(engine="channel", has_written=state.has_written)))

    def restore(self, lane: Lane, data: bytes) -> DiarizeState:
        """Return the state of a snapshot."""
        return replace(self.open(lane), has_written=decode_plain(data, DiarizeLane).has_written)
