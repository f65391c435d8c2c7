"""The account of a lane: what became of every sample. Pure; positions count at the channel's rate.

Spans follow each other without holes. A stretch is accounted for when the stages have said everything about it: an utterance when its
words are in segments, silence with what comes behind it, at the latest after `LONGEST_SILENCE_SECONDS`. Within an utterance the time
from the first to the last word of each segment is ``segment``. What a guard refused is ``refused`` with its reason, and so is what got
no word (``no_words``) though it is longer than the margins of an utterance: pre-roll, hangover, the pauses between sentences. Where an
utterance was broken, at a gap or pause or because the feed vanished or it grew too long, there are no margins: there speech is what vad
heard. The rest is ``non_speech``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from schemas.records import Rejected, Span, Words

LONGEST_SILENCE_SECONDS = 60
MARGIN_SECONDS = 1.0
NO_WORDS = "no_words"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch that came to its end: an utterance (by index), a gap or a pause.

    Where an utterance begins at a break there was speech from ``speech_start`` on, where it is cut off up to ``speech_end``.
    """

    kind: str
    start: int
    end: int
    reason: str = ""
    utterance: int = -1
    speech_start: int = -1
    speech_end: int = -1

    def is_before(self, utterance: int, start: int) -> bool:
        """Return whether no word of ``utterance`` and behind, from sample ``start`` on, is in it."""
        return self.utterance < utterance if self.kind == "utterance" else self.end <= start


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything below ``accounted`` is written. ``waiting`` are stretches whose words are not all in segments yet."""

    rate: int
    accounted: int
    silent_to: int = 0
    spoken: tuple[Rejected, ...] = ()
    refused: tuple[Rejected, ...] = ()
    waiting: tuple[Stretch, ...] = ()

    @property
    def heard_to(self) -> int:
        """Return the sample up to which everything is said."""
        return max([self.accounted, self.silent_to, *(stretch.end for stretch in self.waiting)])

    def hear(self, words: Words) -> Account:
        """Take in what asr says of an utterance."""
        heard = replace(self, refused=self.refused + words.rejected)
        if not words.is_last:
            return heard
        start = words.start_sample if words.start_sample >= 0 else self.accounted
        return heard.behind(
            Stretch(
                "utterance",
                start,
                words.watermark_sample,
                utterance=words.utterance,
                speech_start=words.speech_start_sample,
                speech_end=words.speech_end_sample,
            )
        )

    def close(self, start: int, end: int) -> Account:
        """Take in a closed segment: from its first word to its last."""
        return replace(self, spoken=(*self.spoken, Rejected(start_sample=start, end_sample=end, reason="")))

    def quiet(self, to: int) -> Account:
        """Take in that there is no speech up to ``to``, behind what was said before."""
        return replace(self, silent_to=max(self.silent_to, to))

    def behind(self, stretch: Stretch) -> Account:
        """Take in a stretch that has ended."""
        return replace(self, waiting=(*self.waiting, stretch))

    def is_refused(self, start: int, end: int) -> bool:
        """Return whether refused speech begins between ``start`` and ``end``."""
        return any(start <= one.start_sample < end for one in self.refused)

    def settle(
        self, open_utterance: int | None, *, is_end: bool, open_from: int = 0
    ) -> tuple[Account, tuple[Span, ...]]:
        """Return the account without what can be written, and that.

        Words of ``open_utterance`` and behind, from sample ``open_from`` on, wait for segments.
        """
        ledger = _Ledger(self.accounted)
        margin = round(MARGIN_SECONDS * self.rate)
        waiting = list(self.waiting)
        spoken, refused = self.spoken, self.refused
        while waiting and (open_utterance is None or waiting[0].is_before(open_utterance, open_from)):
            stretch = waiting.pop(0)
            inside = _within(spoken, stretch.end)
            if stretch.kind == "utterance":
                if stretch.start < ledger.position:  # a gap has reached into it
                    stretch = replace(stretch, speech_start=ledger.position)
                ledger.up_to(stretch.start, "non_speech")
                ledger.utterance(stretch, inside, _within(refused, stretch.end), margin)
            else:
                before = _within(spoken, stretch.start), _within(refused, stretch.start)
                if any(before):  # of an utterance whose end is in the gap
                    ledger.up_to(min(one.start_sample for known in before for one in known), "non_speech")
                    ledger.utterance(replace(stretch, end=stretch.start, speech_end=stretch.start), *before, margin)
                ledger.up_to(stretch.start, "non_speech")
                ledger.missing(stretch, inside)
            spoken = tuple(one for one in spoken if one.start_sample >= stretch.end)
            refused = tuple(one for one in refused if one.start_sample >= stretch.end)
        if is_end and (spoken or refused):  # of an utterance whose end never came
            known = (*spoken, *refused)
            ledger.up_to(min(one.start_sample for one in known), "non_speech")
            ledger.utterance(
                Stretch("utterance", ledger.position, max(one.end_sample for one in known)), spoken, refused, margin
            )
            spoken = refused = ()
        is_long = self.silent_to - ledger.position >= LONGEST_SILENCE_SECONDS * self.rate
        if not waiting and open_utterance is None and (is_end or (is_long and not spoken and not refused)):
            ledger.up_to(self.silent_to, "non_speech")
        settled = replace(self, accounted=ledger.position, spoken=spoken, refused=refused, waiting=tuple(waiting))
        return settled, tuple(ledger.spans)


@dataclass(slots=True)
class _Ledger:
    """Spans in the making, from ``position`` on."""

    position: int
    spans: list[Span] = field(default_factory=list)

    def up_to(self, end: int, kind: str, reason: str = "") -> None:
        """Account for everything up to ``end``, if there is anything."""
        if end > self.position:
            self.spans.append(Span(end_sample=end, kind=kind, reason=reason))
            self.position = end

    def utterance(self, stretch: Stretch, spoken: Sequence[Rejected], refused: Sequence[Rejected], margin: int) -> None:
        """Account for an utterance."""
        end = stretch.end
        if not spoken and not refused:
            self.up_to(end, "refused", NO_WORDS)
            return
        known = (*spoken, *refused)
        first, last = min(one.start_sample for one in known), max(one.end_sample for one in known)
        wordless = ((stretch.speech_start, first), (last, stretch.speech_end))
        refused = [
            *refused,
            *(Rejected(start_sample=one, end_sample=to, reason=NO_WORDS) for one, to in wordless if 0 <= one < to),
        ]
        for segment in sorted(spoken, key=lambda one: one.start_sample):
            self._wordless(min(segment.start_sample, end), refused, margin)
            self.up_to(min(segment.end_sample, end), "segment")
        self._wordless(end, refused, margin)

    def missing(self, stretch: Stretch, spoken: Sequence[Rejected]) -> None:
        """Account for a gap or a pause. A recogniser whose input was deleted may have committed words of it before."""
        for segment in sorted(spoken, key=lambda one: one.start_sample):
            self.up_to(segment.start_sample, stretch.kind, stretch.reason)
            self.up_to(min(segment.end_sample, stretch.end), "segment")
        self.up_to(stretch.end, stretch.kind, stretch.reason)

    def _wordless(self, end: int, refused: Sequence[Rejected], margin: int) -> None:
        """Account for what lies before the next segment."""
        for one in sorted(refused, key=lambda one: one.start_sample):
            if one.start_sample < end and one.end_sample > self.position:
                self._silent(one.start_sample, margin)
                self.up_to(min(one.end_sample, end), "refused", one.reason)
        self._silent(end, margin)

    def _silent(self, end: int, margin: int) -> None:
        is_margin = end - self.position <= margin
        self.up_to(end, "non_speech" if is_margin else "refused", "" if is_margin else NO_WORDS)


def _within(spans: Sequence[Rejected], end: int) -> list[Rejected]:
    return [one for one in spans if one.start_sample < end]
