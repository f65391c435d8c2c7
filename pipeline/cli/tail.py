"""``callscribe tail``: calls as they happen, from the topics."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from pipeline.cli.common import console, note, settings_of
from pipeline.core.errors import UsageError
from pipeline.core.ids import is_call_id
from pipeline.core.text import joined
from schemas.records import CallAnnotation, CallSegment, Speakers, Word

Records: TypeAlias = Iterable[CallAnnotation | CallSegment | None]

CALL_KINDS = ("started", "hold", "transfer", "interrupted", "resumed", "ended", "degraded")


class Start(StrEnum):
    """Where to begin."""

    BEGINNING = "beginning"
    NOW = "now"


def register(app: typer.Typer) -> None:
    """Add the command ``tail``."""
    app.command("tail", epilog="Example: callscribe tail --from beginning --json | jq .text")(tail)


def tail(
    context: typer.Context,
    call_id: Annotated[str | None, typer.Argument(help="Only this call; returns when it has ended.")] = None,
    start: Annotated[Start, typer.Option("--from", help="Where to begin.")] = Start.NOW,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line, tentative text included.")] = False,
) -> None:
    """Follow committed segments and tentative text from the topics.

    On a terminal the committed words and the tentative text (dim) of each open segment stand below the closed
    segments; in a pipe each closed segment is a line.
    """
    from pipeline.runtime.tail import follow

    if call_id is not None and not is_call_id(call_id):
        raise UsageError(f"not a call id: {call_id!r} ([A-Za-z0-9._:-]{{1,128}})")
    is_live = console.is_terminal and not as_json

    def ready() -> None:
        if not as_json:
            note(f"following {call_id or 'all calls'}; stop with Ctrl-C")

    records = follow(settings_of(context), call_id=call_id, from_beginning=start is Start.BEGINNING, on_ready=ready)
    with closing(records):
        if is_live:
            _show_live(records, call_id)
        else:
            _print_lines(records, call_id, as_json=as_json)


def _print_lines(records: Records, call_id: str | None, *, as_json: bool) -> None:
    for record in records:
        if record is None:
            continue
        line = json_line(record) if as_json else text_line(record)
        if line is not None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        if _is_end(record, call_id):
            return


def _show_live(records: Records, call_id: str | None) -> None:
    view = LiveView()
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        for record in records:
            if record is None:
                continue
            line = text_line(record)
            view.take(record)
            if line is not None:
                live.console.print(Text(line, style="default" if record.kind == "segment" else "cyan"), soft_wrap=True)
            live.update(view.render())
            if _is_end(record, call_id):
                return


@dataclass(slots=True)
class OpenSegment:
    """Words of one channel that are not in a closed segment yet, and the tentative text after them."""

    words: list[Word] = field(default_factory=list)
    tentative: str = ""


class LiveView:
    """What stands below the closed segments: one line for each channel that is being spoken on."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, int], OpenSegment] = {}

    def take(self, record: CallAnnotation | CallSegment) -> None:
        """Note one record. A closed segment takes its words off the line, the end of a call all its lines."""
        if record.kind == "ended" and isinstance(record, CallSegment):
            self.open = {place: line for place, line in self.open.items() if place[0] != record.call_id}
            return
        line = self.open.setdefault((record.call_id, record.channel), OpenSegment())
        if isinstance(record, CallSegment):
            if record.segment is not None:
                line.words = [word for word in line.words if word.start_sample >= record.segment.end_sample]
        elif record.words is not None:
            line.words += record.words.words
            line.tentative = ""
        elif record.tail is not None:
            line.tentative = record.tail.text
        if not line.words and not line.tentative:
            del self.open[record.call_id, record.channel]

    def render(self) -> Group:
        """Return the lines: committed words as they are, tentative text dim."""
        lines = []
        for (call_id, channel), line in sorted(self.open.items()):
            text = Text(f"{call_id} {channel}", style="green", overflow="ellipsis", no_wrap=True)
            for part, style in ((joined(line.words), "default"), (line.tentative.strip(), "dim")):
                if part:
                    text.append(f" {part}", style=style)
            lines.append(text)
        return Group(*lines)


def text_line(record: CallAnnotation | CallSegment) -> str | None:
    """Return the line of a record in a pipe, None for records that have none."""
    from pipeline.sink.exports.txt import to_line
    from pipeline.sink.transcript import segment_of_record

    if not isinstance(record, CallSegment):
        return None
    segment = segment_of_record(record)
    if segment is not None:
        return f"{record.call_id} {to_line(segment, is_corrected=segment.revision > 0)}"
    if record.kind == "speakers" and record.speakers is not None:
        return f"{record.call_id} channel {record.channel} speakers: {_speakers_text(record.speakers)}"
    if record.kind == "gap" and record.gap is not None:
        return f"{record.call_id} channel {record.channel} gap ({record.gap.reason})"
    return f"{record.call_id} {record.kind}" if record.kind in CALL_KINDS else None


def _speakers_text(speakers: Speakers) -> str:
    known = (
        f"{one.speaker} {' '.join(filter(None, (one.name, f'({one.role})' if one.role else None)))}".rstrip()
        for one in speakers.speakers
    )
    return ", ".join(known) or "nobody"


def json_line(record: CallAnnotation | CallSegment) -> str | None:
    """Return the JSON object of a record, None for records that say nothing to a reader.

    ``type`` is segment, words, tail, gap, speakers, or the kind of a control record of ``call.segments``.
    """
    document = _segments_document(record) if isinstance(record, CallSegment) else _annotation_document(record)
    if document is None:
        return None
    head: dict[str, Any] = {"type": record.kind, "call_id": record.call_id, "channel": record.channel}
    return json.dumps(head | document, ensure_ascii=False)


def _segments_document(record: CallSegment) -> dict[str, Any] | None:
    from pipeline.sink.transcript import seconds, segment_document, segment_of_record

    segment = segment_of_record(record)
    if segment is not None:
        return segment_document(segment)
    start = {"start_seconds": seconds(record.start_sample, record.sample_rate_hz)}
    if record.kind == "gap" and record.gap is not None:
        end = {"end_seconds": seconds(record.gap.end_sample, record.sample_rate_hz)}
        return start | end | {"reason": record.gap.reason}
    if record.kind not in (*CALL_KINDS, "speakers"):
        return None
    content = getattr(record, record.kind, None)
    return start | ({} if content is None else content.to_avro())


def _annotation_document(record: CallAnnotation) -> dict[str, Any] | None:
    from pipeline.sink.transcript import word_document, word_of

    if record.words is not None and record.words.words:
        words = [word_document(word_of(word, record.sample_rate_hz)) for word in record.words.words]
        return {"text": joined(record.words.words), "words": words}
    return None if record.tail is None else {"text": record.tail.text}


def _is_end(record: CallAnnotation | CallSegment, call_id: str | None) -> bool:
    return call_id is not None and record.kind == "ended" and isinstance(record, CallSegment)
