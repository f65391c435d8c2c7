"""Whose voice a channel carries: what diarize says of a separate channel, and assemble knows without being told."""

from __future__ import annotations

from schemas.records import Channel, Turn

MIXED = "mixed"  # role of a channel with several speakers
UNKNOWN = "unknown"
UNBOUNDED = 2**62  # watermark of a channel whose speaker is known for ever


def open_turn(channel: Channel) -> Turn:
    """Return the turn that lasts for the whole call: that of the channel's role; of a mixed channel's speakers nobody is known."""
    speaker = UNKNOWN if channel.role == MIXED else channel.role
    return Turn(speaker=speaker, start_sample=channel.offset_samples, end_sample=None)
