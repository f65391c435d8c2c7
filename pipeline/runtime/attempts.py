"""Records that kill the process: what the metadata of an offset commit remembers of starts that made no progress.

A record that ends the process (a crash in a model's library, the memory it takes) comes back after every restart. Nothing in the
process can tell, so the commit of its partition does: each start commits the offset it found, with one more start in the metadata,
which goes with the first progress, and with an end in good order. After a start without progress the next records are taken in hand
one by one, each named in the metadata first; one that has ended the process ``limit`` times is condemned: it goes to the dead letters,
and its call does without what it would have had inferred. One that ends the process even so is not decoded any more. Every commit in
front of them says so. Pure.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

CAREFUL_AFTER = 2  # starts from the same offset
CAREFUL_RECORDS = 512  # doubled by every start: nobody knows how far on the record is that ends the process
MAX_DOUBLINGS = 20
AGAIN = 2  # deaths of a condemned record, after which it is not even decoded
MAX_CONDEMNED = 32  # the newest ones; the metadata of a commit may have 4096 bytes


def terminated(text: str) -> str:
    """Return metadata as every client can read it: confluent-kafka reads on to the next zero byte, whatever stands there."""
    return text and text + "\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The metadata of a partition's commit.

    ``starts`` from the committed offset; ``in_hand`` the record that was being processed; ``culprit`` the one that ended the process
    last, ``deaths`` times in a row; ``condemned`` those that are not processed any more, ``unread`` those of them that are not decoded.
    """

    starts: int = 0
    in_hand: int | None = None
    culprit: int | None = None
    deaths: int = 0
    condemned: tuple[int, ...] = ()
    unread: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> Attempts:
        """Return what ``text`` says; what somebody else has written there says nothing.

        >>> Attempts.parse(Attempts(starts=2, in_hand=7).to_text()).in_hand
        7
        """
        try:
            document = json.loads((text or "").rstrip("\0") or "{}")  # confluent-kafka ends it with a zero byte
            lists = {name: tuple(document.get(name, ())) for name in ("condemned", "unread")}
            found = cls(**{**document, **lists})
        except (ValueError, TypeError, AttributeError):
            return cls()
        numbers = (found.starts, found.deaths, found.in_hand or 0, found.culprit or 0, *found.condemned, *found.unread)
        return found if all(isinstance(number, int) and number >= 0 for number in numbers) else cls()

    def to_text(self) -> str:
        """Return the metadata; empty when there is nothing to remember."""
        values = {name: value for name, value in asdict(self).items() if value}
        if self.in_hand is not None:
            values["in_hand"] = self.in_hand
        if self.culprit is not None:
            values["culprit"] = self.culprit
        return json.dumps(values, separators=(",", ":")) if values else ""

    def started(self, limit: int) -> Attempts:
        """Return what holds for a start that found this: what was in hand has ended the process, ``limit`` times at most."""
        if self.in_hand is None:
            return replace(self, starts=self.starts + 1)
        found = replace(self, starts=max(self.starts, CAREFUL_AFTER), in_hand=None)  # it was not further on
        deaths = self.deaths + 1 if self.in_hand == self.culprit else 1
        condemned, unread = self.condemned, self.unread
        if self.in_hand in condemned:
            if deaths >= limit + AGAIN and self.in_hand not in unread:
                unread = (*unread, self.in_hand)[-MAX_CONDEMNED:]
        elif deaths >= limit:
            condemned = (*condemned, self.in_hand)[-MAX_CONDEMNED:]
        return replace(found, culprit=self.in_hand, deaths=deaths, condemned=condemned, unread=unread)

    def kept(self, offset: int) -> Attempts:
        """Return what is left of it where a commit of ``offset`` made progress: the condemned records that may be read again."""
        condemned, unread = (tuple(one for one in found if one >= offset) for found in (self.condemned, self.unread))
        return Attempts(condemned=condemned, unread=unread)

    @property
    def is_careful(self) -> bool:
        """Return whether records are taken in hand one by one."""
        return self.starts >= CAREFUL_AFTER


@dataclass(slots=True, kw_only=True)
class Start:
    """Where reading starts in one partition: ``offset``. ``first`` is its oldest record, ``end`` is behind its last one.

    ``in_hand`` is the record that is processed alone; ``is_over`` says that the partition was given up in good order.
    """

    offset: int
    first: int
    end: int
    attempts: Attempts
    in_hand: int | None = None
    is_over: bool = False

    @classmethod
    def from_commit(
        cls,
        offset: int | None,
        metadata: str | None,
        *,
        first: int,
        end: int,
        max_deaths: int,
        last: Start | None = None,
    ) -> Start:
        """Return where reading starts in a log whose records are ``first`` to below ``end``, and what its commit remembers of it.

        ``offset`` is None where nothing is committed, or where the caller saw the topic go and come back: what is committed is of the
        log that was deleted. A commit behind the end is, too. ``last`` is the start of this process that others count as a death.

        >>> start = Start.from_commit(5, Attempts(starts=1).to_text(), first=0, end=9, max_deaths=3)
        >>> start.offset, start.attempts.starts
        (5, 2)
        >>> Start.from_commit(5, Attempts(starts=1, condemned=(4, 8)).to_text(), first=7, end=9, max_deaths=3).attempts
        Attempts(starts=0, in_hand=None, culprit=None, deaths=0, condemned=(8,), unread=())
        """
        if offset is None or offset > end:
            offset, metadata, last = first, "", None
        begin = max(first, offset)
        if begin == end:  # there was nothing to fail at
            return cls(offset=begin, first=first, end=end, attempts=Attempts())
        found = Attempts.parse(metadata if last is None else last.lived_on(offset, metadata or ""))
        # Where the records in between were deleted, whatever ended the process may have gone with them.
        attempts = found.started(max_deaths) if begin == offset else found.kept(begin)
        return cls(offset=begin, first=first, end=end, attempts=attempts)

    @property
    def careful_end(self) -> int:
        """Return the offset behind the last record that is taken in hand alone."""
        if not self.attempts.is_careful:
            return self.offset
        return min(self.end, self.offset + (CAREFUL_RECORDS << min(self.attempts.starts, MAX_DOUBLINGS)))

    def is_careful(self, offset: int) -> bool:
        """Return whether the record at ``offset`` is taken in hand alone: starts came to nothing, and it was there before."""
        return self.offset <= offset < self.careful_end

    def is_condemned(self, offset: int) -> bool:
        """Return whether the record at ``offset`` has ended the process too often."""
        return offset in self.attempts.condemned

    def is_unread(self, offset: int) -> bool:
        """Return whether the record at ``offset``, condemned, has ended the process once more."""
        return offset in self.attempts.unread

    def metadata(self, offset: int) -> str:
        """Return what a commit of ``offset`` remembers."""
        return self._at(offset, is_over=self.is_over)

    def lived_on(self, offset: int, text: str) -> str:
        """Return what to believe of ``text``, found in the commit of ``offset`` by the process of this start.

        >>> start = Start(offset=5, first=0, end=9, attempts=Attempts(starts=1))
        >>> start.lived_on(5, start.metadata(5))  # it could not take that back when the partition went; nobody has died
        ''
        """
        return self._at(offset, is_over=True) if text.rstrip("\0") == self._at(offset, is_over=False) else text

    def rewound(self, offset: int) -> str:
        """Return what a commit of ``offset`` remembers from where everything is read again."""
        return self.attempts.kept(offset).to_text()

    def _at(self, offset: int, *, is_over: bool) -> str:
        if offset > self.offset and offset >= self.careful_end:
            return self.rewound(offset)
        kept = self.attempts.kept(offset)
        found = replace(self.attempts, condemned=kept.condemned, unread=kept.unread)
        if is_over:
            return replace(found, starts=max(0, found.starts - 1)).to_text()
        is_unfinished = self.in_hand is not None and self.in_hand >= offset
        return replace(found, in_hand=self.in_hand if is_unfinished else None).to_text()
