"""What the operator says about calls, as text, checked: shared by every command that takes a source."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline.core.errors import UsageError
from pipeline.core.languages import unknown_language
from pipeline.core.recognition import AUTOMATIC
from pipeline.ingest.controls import read_controls
from pipeline.ingest.feed import FeedOptions
from pipeline.ingest.formats import MAX_RATE_HZ, MIN_RATE_HZ, RAW_ENCODINGS, TELEPHONE_RATE_HZ, RawFormat

SPEAKERS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
MOST_SPEAKERS = 20
ROLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def raw_format(
    *, encoding: str | None, rate: int | None, channels: int | None, max_channels: int = 32
) -> RawFormat | None:
    """Return the format of samples without a header, None when no encoding is given. Raises UsageError."""
    if encoding is None:
        if rate is not None or channels is not None:
            raise UsageError("--rate and --channels describe samples without a header: say --encoding too")
        return None
    if encoding not in RAW_ENCODINGS:
        raise UsageError(f"--encoding {encoding} is not one of {', '.join(RAW_ENCODINGS)}")
    rate = TELEPHONE_RATE_HZ if rate is None else rate
    channels = 1 if channels is None else channels
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise UsageError(f"--rate {rate} is not within {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    if not 1 <= channels <= max_channels:
        raise UsageError(f"--channels {channels} is not within 1 to {max_channels} (setting ingest.max_channels)")
    return RawFormat(encoding=encoding, sample_rate_hz=rate, channels=channels)


def feed_options(
    *,
    roles: Sequence[str] = (),
    language: str | None = None,
    prompt: str | None = None,
    hot_words: Sequence[str] = (),
    model: str | None = None,
    policy: str | None = None,
    task: str | None = None,
    speakers: str | None = None,
    offered_models: Collection[str] = (),
    attributes: Sequence[str] = (),
    tenant: str | None = None,
    controls: Path | None = None,
    record_seconds: float = 0.2,
) -> FeedOptions:
    """Return the options of a feed; ``roles`` are ``0=agent``, ``attributes`` ``queue=billing``. Raises UsageError.

    ``model`` is one of ``offered_models``, those that the deployment's workers have been given. ``speakers`` are ``2``, ``2-4`` or
    ``auto``.
    """
    if language not in (None, AUTOMATIC) and (problem := unknown_language(language)):
        raise UsageError(f"--language: {problem}")
    if model is not None and model not in offered_models:
        offered = ", ".join(offered_models)
        raise UsageError(f"--model {model} is not offered; settings asr.model and asr.models offer {offered}")
    fewest, most = speaker_limits(speakers)
    return FeedOptions(
        roles=_roles(roles),
        language=language,
        prompt=prompt,
        hot_words=tuple(hot_words),
        model=model,
        policy=policy,
        task=task,
        min_speakers=fewest,
        max_speakers=most,
        attributes=_pairs(attributes, "--attribute"),
        tenant=tenant,
        controls=() if controls is None else read_controls(controls),
        record_seconds=record_seconds,
    )


def speaker_limits(text: str | None) -> tuple[int | None, int | None]:
    """Return the fewest and the most speakers of a mixed leg; None, None where nothing is said. ``auto`` allows any number.

    Raises UsageError.
    """
    if text is None:
        return None, None
    if text == AUTOMATIC:
        return 1, MOST_SPEAKERS
    found = SPEAKERS.fullmatch(text)
    if found is None:
        raise UsageError(f"--speakers {text} is not like 2, 2-4 or {AUTOMATIC}")
    fewest = int(found[1])
    most = fewest if found[2] is None else int(found[2])
    if not 1 <= fewest <= most <= MOST_SPEAKERS:
        raise UsageError(f"--speakers {text} is not within 1 to {MOST_SPEAKERS}, the fewest first")
    return fewest, most


def _roles(texts: Sequence[str]) -> Mapping[int, str]:
    roles = {}
    for channel, role in _pairs(texts, "--role").items():
        if not (channel.isascii() and channel.isdigit()) or ROLE.fullmatch(role) is None:
            raise UsageError(f"--role {channel}={role} is not like 0=agent")
        roles[int(channel)] = role
    return roles


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (separator and name):
            raise UsageError(f"{option} {text} is not of the form NAME=VALUE")
        if name in pairs:
            raise UsageError(f"{option} {name} is given twice")
        pairs[name] = value
    return pairs
