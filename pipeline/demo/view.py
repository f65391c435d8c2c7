"""The live two-column view of the demonstration: committed text bright, the tentative tail dim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.records import CallAnnotation, CallSegment


@dataclass(slots=True)
class _Line:
    """One utterance."""

    channel: int
    start_seconds: float
    text: str = ""
    tail: str = ""


@dataclass(slots=True)
class CallView:
    """What the screen shows of one call."""

    title: str
    roles: Sequence[str]
    lines: dict[tuple[int, int], _Line] = field(default_factory=dict)
    seen: set[tuple[int, int]] = field(default_factory=set)
    is_complete: bool = False

    def hear(self, record: CallAnnotation | CallSegment) -> None:
        """Take in a record of call.annotations or call.segments."""
        if isinstance(record, CallSegment):
            self.is_complete |= record.kind == "ended"
            return
        if record.words is not None and (record.channel, record.sequence) not in self.seen:
            self.seen.add((record.channel, record.sequence))
            line = self._line(record, record.words.utterance)
            for word in record.words.words:
                line.text += word.text if word.is_joined else f" {word.text}"
            line.tail = ""
        elif record.tail is not None:
            self._line(record, record.tail.utterance).tail = record.tail.text

    def _line(self, record: CallAnnotation, utterance: int) -> _Line:
        key = (record.channel, utterance)
        if key not in self.lines:
            self.lines[key] = _Line(record.channel, record.start_sample / record.sample_rate_hz)
        return self.lines[key]

    def render(self, rows: int) -> RenderableType:
        """Return the last ``rows`` utterances, one column per channel."""
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=6)
        for _ in self.roles:
            table.add_column(ratio=1)
        shown = [line for line in self.lines.values() if line.text or line.tail]
        for line in sorted(shown, key=lambda line: (line.start_seconds, line.channel))[-rows:]:
            cells = [Text("") for _ in self.roles]
            if line.channel < len(cells):
                cells[line.channel] = Text.assemble(
                    (line.text.strip(), "bold"), (f" {line.tail}" if line.tail else "", "dim italic")
                )
            table.add_row(Text(f"{int(line.start_seconds // 60)}:{line.start_seconds % 60:04.1f}", style="dim"), *cells)
        heads = Table.grid(padding=(0, 1), expand=True)
        heads.add_column(width=6)
        for _ in self.roles:
            heads.add_column(ratio=1)
        heads.add_row("", *(Text(role, style="cyan") for role in self.roles))
        return Panel(
            Group(heads, table), title=f"{self.title}{' · complete' if self.is_complete else ''}", title_align="left"
        )


def render(views: Mapping[str, CallView], height: int) -> RenderableType:
    """Return all calls under each other in ``height`` lines; complete calls shrink first."""
    rows = max(2, (height - 2) // max(1, len(views)) - 4)
    return Group(*(view.render(rows // 2 if view.is_complete and len(views) > 1 else rows) for view in views.values()))
