"""The lanes of a call in one stage: as they open, and as they were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.core.contract import Lane, LaneLogic, R, S, W
from pipeline.core.entries import LaneEntry, opened, restored_entry
from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.passing import check_channels, control_rate
from schemas.records import LaneState, Started


def opened_entries(logic: LaneLogic[S, W, R], started: Started) -> dict[int, LaneEntry[S]]:
    """Return the lanes of a call that starts, by channel."""
    check_channels(started)
    lanes: dict[int, LaneEntry[S]] = {CALL_CHANNEL: LaneEntry(CALL_CHANNEL, control_rate(started))}
    for channel in started.channels:
        lane = Lane(channel=channel, started=started)
        lanes[channel.channel] = LaneEntry(channel.channel, channel.sample_rate_hz, logic.open(lane), lane)
    return lanes


def restored_entries(
    logic: LaneLogic[S, W, R],
    restored: Mapping[int, LaneState],
    *,
    stage: str,
    first_offset: int,
    writers: Sequence[str],
) -> dict[int, LaneEntry[S]]:
    """Return the lanes of a call as they were recorded, by channel; of one that has ended the control lane may be all."""
    control = restored[CALL_CHANNEL]
    started, rate = control.started, control_rate(control.started) if control.started else 0
    entry: LaneEntry[S] = LaneEntry(CALL_CHANNEL, rate)
    lanes = {CALL_CHANNEL: restored_entry(entry, control, first_offset, writers)}
    if started is None:
        return lanes
    for channel in started.channels:
        lane, state = Lane(channel=channel, started=started), restored.get(channel.channel)
        entry = LaneEntry(channel.channel, channel.sample_rate_hz, opened(logic, lane, state, stage), lane)
        lanes[channel.channel] = restored_entry(entry, state, first_offset, writers)
    return lanes
