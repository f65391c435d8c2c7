"""The speakers of a mixed channel: how long each has spoken, who was recognised, and which role each has. Pure.

Roles come from enrolment, and by a rule where that is silent: the rule picks one speaker, the others have the other role. What a rule goes
by is where segments lie in the call, not when they were published: a correction that names an earlier speaker counts as if it had always
been known. Positions and lengths are samples at the channel's rate.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pipeline.core.speakers import UNKNOWN
from pipeline.core.text import SpokenWord, joined
from schemas.records import Identity, Speaker, Speakers, Voice, Voices

MOST_VOICES = 20
LONGEST_NAME, LONGEST_ROLE = 64, 32  # bytes: the state has room for no more
COMPARED_SECONDS = 30  # of speech between two comparisons of how long the speakers have spoken
LEAD_SECONDS = 5
FIRST_UNSPACED = "⺀"  # from here on scripts that write words without spaces
ENROLMENT = "enrolment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """How speakers get roles. ``rule`` is none, first (who speaks first), longest, or phrase (who says one of ``phrases``)."""

    rule: str = "none"
    first_role: str = "agent"
    other_role: str = "customer"
    phrases: tuple[str, ...] = ()


def spoke(
    voices: Voices, roles: Roles, speaker: str, *, start: int, end: int, words: Sequence[SpokenWord], rate: int
) -> Voices:
    """Take in a segment, or a part of one, whose speaker is known now."""
    if speaker == UNKNOWN:
        return voices
    voices = _with(
        voices,
        speaker,
        lambda voice: replace(
            voice,
            first_sample=start if voice.first_sample < 0 else min(voice.first_sample, start),
            spoken_samples=voice.spoken_samples + end - start,
        ),
    )
    voices = replace(voices, is_untold=True)
    if roles.rule == "longest":
        total = sum(voice.spoken_samples for voice in voices.voices)
        is_due = total - voices.judged_samples >= COMPARED_SECONDS * rate
        return replace(_compared(voices, LEAD_SECONDS * rate), judged_samples=total) if is_due else voices
    is_said = roles.rule == "first" or (roles.rule == "phrase" and says(words, roles.phrases))
    if is_said and (voices.chosen is None or start < voices.chosen_sample):
        return replace(voices, chosen=speaker, chosen_sample=start)
    return voices


def recognised(voices: Voices, identities: Iterable[Identity]) -> Voices:
    """Take in who was recognised, or is not any more."""
    for one in identities:
        name = None if one.name is None else _cut(one.name, LONGEST_NAME)
        role = None if one.name is None or one.role is None else _cut(one.role, LONGEST_ROLE)
        voices = _with(voices, one.speaker, partial(replace, name=name, role=role))
    return voices


def at_the_end(voices: Voices, roles: Roles) -> Voices:
    """Return the speakers when nobody will speak any more: who has spoken longest is certain then."""
    return _compared(voices, 1) if roles.rule == "longest" else voices


def speakers_of(voices: Voices, roles: Roles, rate: int) -> Speakers:
    """Return what is known of those who have spoken, by first appearance."""
    heard = sorted((voice for voice in voices.voices if voice.first_sample >= 0), key=lambda voice: voice.first_sample)
    is_taken = any(voice.role == roles.first_role for voice in heard)
    return Speakers(
        speakers=tuple(_speaker(voice, voices.chosen, roles, is_taken=is_taken, rate=rate) for voice in heard),
        unknown_words=voices.unknown_words,
        corrected_words=voices.corrected_words,
    )


def is_other(before: Speakers, after: Speakers) -> bool:
    """Return whether anything but lengths and counts has changed."""

    def mapping(one: Speakers) -> tuple[Speaker, ...]:
        return tuple(replace(speaker, spoken_seconds=0.0) for speaker in one.speakers)

    return mapping(before) != mapping(after)


def says(words: Sequence[SpokenWord], phrases: Iterable[str]) -> bool:
    """Return whether the words hold one of the phrases; case, punctuation and spacing do not matter, but whole words do."""
    text, edges = _letters(joined(words))
    for phrase in phrases:
        wanted, _ = _letters(phrase)
        at = text.find(wanted) if wanted else -1
        while at >= 0:
            if at in edges and at + len(wanted) in edges:
                return True
            at = text.find(wanted, at + 1)
    return False


def _letters(text: str) -> tuple[str, frozenset[int]]:
    """Return the letters and digits of a text, and between which of them a word may begin or end."""
    letters: list[str] = []
    edges = {0}
    for sign in unicodedata.normalize("NFKC", text).casefold():
        if not sign.isalnum():
            edges.add(len(letters))
            continue
        if sign >= FIRST_UNSPACED:
            edges |= {len(letters), len(letters) + 1}
        letters.append(sign)
    return "".join(letters), frozenset(edges | {len(letters)})


def _compared(voices: Voices, lead: int) -> Voices:
    """Return the speakers with the one chosen who has spoken longest, where that is by ``lead`` samples."""
    heard = [voice for voice in voices.voices if voice.first_sample >= 0]
    if not heard:
        return voices
    best = max(heard, key=lambda voice: (voice.spoken_samples, -voice.first_sample))
    chosen = next((voice for voice in heard if voice.speaker == voices.chosen), None)
    is_better = chosen is None or best.spoken_samples - chosen.spoken_samples >= lead
    return replace(voices, chosen=best.speaker) if is_better else voices


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _with(voices: Voices, speaker: str, changed: Callable[[Voice], Voice]) -> Voices:
    """Return the voices with one changed, or a new one as long as there is room."""
    known = voices.voices
    if all(one.speaker != speaker for one in known):
        if len(known) >= MOST_VOICES:
            return voices
        known = (*known, Voice(speaker=speaker))
    return replace(voices, voices=tuple(changed(one) if one.speaker == speaker else one for one in known))


def _speaker(voice: Voice, chosen: str | None, roles: Roles, *, is_taken: bool, rate: int) -> Speaker:
    """Return what is known of a speaker. Where enrolment knows who has the first role, the rule gives it to nobody."""
    role: str | None = None
    rule: str | None = None
    if voice.role is not None:
        role, rule = voice.role, ENROLMENT
    elif chosen is not None and roles.rule != "none":
        role = roles.first_role if voice.speaker == chosen and not is_taken else roles.other_role
        rule = roles.rule
    return Speaker(
        speaker=voice.speaker, role=role, name=voice.name, rule=rule, spoken_seconds=voice.spoken_samples / rate
    )
