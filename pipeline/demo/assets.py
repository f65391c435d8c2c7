"""The shipped model, calls and references, found by path: nothing is loaded here but the references' JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
MODEL = FOLDER / "model"
CALLS = FOLDER / "calls"
WHISPER_TOKENIZER = FOLDER / "training" / "tokenizer.json"  # of OpenAI's multilingual Whisper, MIT: all 51 865 tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceUtterance:
    """One spoken sentence and where it is in the call, in seconds from the call's start."""

    channel: int
    start_seconds: float
    end_seconds: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceEvent:
    """Something that happens to the whole call, such as a ``hold``."""

    kind: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoCall:
    """A shipped call: a two-channel 8 kHz mu-law WAV file and what is said in it.

    ``roles`` maps channel to role. ``utterances`` are ordered by (start, channel); ``words`` counts their words.
    ``synthesizers`` maps each program the voices came from to its version.
    """

    name: str
    description: str
    path: Path
    sample_rate_hz: int
    roles: Mapping[int, str]
    utterances: tuple[ReferenceUtterance, ...]
    events: tuple[ReferenceEvent, ...]
    words: int
    synthesizers: Mapping[str, str]

    def text(self, channel: int) -> str:
        """Return everything said on one channel, in order."""
        return " ".join(utterance.text for utterance in self.utterances if utterance.channel == channel)


@cache
def calls() -> tuple[DemoCall, ...]:
    """Return the shipped calls, by name."""
    return tuple(read_call(path) for path in sorted(CALLS.glob("*.json")))


def read_call(reference: Path) -> DemoCall:
    """Return the call whose reference is the JSON file ``reference``; its audio lies beside it."""
    document = json.loads(reference.read_text(encoding="utf-8"))
    return DemoCall(
        name=document["call"],
        description=document["description"],
        path=reference.with_suffix(".wav"),
        sample_rate_hz=document["sample_rate_hz"],
        roles={channel["channel"]: channel["role"] for channel in document["channels"]},
        utterances=tuple(ReferenceUtterance(**utterance) for utterance in document["utterances"]),
        events=tuple(ReferenceEvent(**event) for event in document["events"]),
        words=document["words"],
        synthesizers=document["synthesizers"],
    )
