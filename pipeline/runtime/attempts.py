"""Records that kill the process: what the metadata of an offset commit remembers of starts that made no progress.

A record that ends the process (a crash in a model's library, the memory it takes) comes back after every restart. Nothing in the
process can tell, so the commit of its partition does: each start commits the offset it found, with one more start in the metadata,
which every ordinary commit takes away again. After a start without progress records are taken in hand one by one, each
named in the metadata first; one that has ended the process ``limit`` times is condemned: it goes to the dead letters unread. Pure.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

CAREFUL_AFTER = 2  # starts from the same offset
MAX_CONDEMNED = 32  # the newest ones; the metadata of a commit may have 4096 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The metadata of a partition's commit.

    ``starts`` from the committed offset; ``in_hand`` the record that was being processed; ``culprit`` the one that ended the process
    last, ``deaths`` times in a row; ``condemned`` those that are not processed any more.
    """

    starts: int = 0
    in_hand: int | None = None
    culprit: int | None = None
    deaths: int = 0
    condemned: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> Attempts:
        """Return what ``text`` says; what somebody else has written there says nothing.

        >>> Attempts.parse(Attempts(starts=2, in_hand=7).to_text()).in_hand
        7
        """
        try:
            document = json.loads(text or "{}")
            found = cls(**{**document, "condemned": tuple(document.get("condemned", ()))})
        except (ValueError, TypeError, AttributeError):
            return cls()
        numbers = (found.starts, found.deaths, found.in_hand or 0, found.culprit or 0, *found.condemned)
        return found if all(isinstance(number, int) for number in numbers) else cls()

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
        found = replace(self, starts=self.starts + 1, in_hand=None)
        if self.in_hand is None:
            return found
        deaths = self.deaths + 1 if self.in_hand == self.culprit else 1
        condemned = self.condemned
        if deaths >= limit and self.in_hand not in condemned:
            condemned = (*condemned, self.in_hand)[-MAX_CONDEMNED:]
        return replace(found, culprit=self.in_hand, deaths=deaths, condemned=condemned)

    @property
    def is_careful(self) -> bool:
        """Return whether records are taken in hand one by one."""
        return self.starts >= CAREFUL_AFTER


@dataclass(slots=True, kw_only=True)
class Start:
    """Where reading starts in one partition: ``offset``. ``first`` is its oldest record, ``end`` is behind its last one."""

    offset: int
    first: int
    end: int
    attempts: Attempts

    def is_careful(self, offset: int) -> bool:
        """Return whether the record at ``offset`` is taken in hand alone: starts came to nothing, and it was there before."""
        return self.attempts.is_careful and offset < self.end

    def is_condemned(self, offset: int) -> bool:
        """Return whether the record at ``offset`` has ended the process too often."""
        return offset in self.attempts.condemned
