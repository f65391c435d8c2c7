"""``callscribe calls`` and ``callscribe transcript``: reading the store."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipeline.cli.common import console, note, print_json, settings_of
from pipeline.core.errors import FailedError, NotReadyError, UsageError

if TYPE_CHECKING:
    from pipeline.runtime.settings import Settings
    from pipeline.sink.coverage import Coverage
    from pipeline.sink.stores.base import CallSummary, Store
    from pipeline.sink.transcript import Transcript

POLL_SECONDS = 0.25


class Format(StrEnum):
    """Formats of a transcript."""

    TXT = "txt"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"
    RTTM = "rttm"
    CSV = "csv"


class CallState(StrEnum):
    """States of a call."""

    LIVE = "live"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"


def register(app: typer.Typer) -> None:
    """Add the commands ``calls`` and ``transcript``."""
    app.command("calls", epilog="Example: callscribe calls --state live")(calls)
    app.command("transcript", epilog="Example: callscribe transcript c1 --format srt --output c1.srt")(transcript)


def calls(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    state: Annotated[CallState | None, typer.Option(help="Only calls in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest N calls.")] = 50,
) -> None:
    """List the calls in the store: state, duration, segments, degraded reasons."""
    store = _open(settings_of(context))
    try:
        found = store.calls(state=None if state is None else state.value, limit=limit)
    finally:
        store.close()
    if as_json:
        print_json([_summary(summary) for summary in found])
    elif not found:
        note(f"no calls in {store.uri}" if state is None else f"no {state.value} calls in {store.uri}")
    elif console.is_terminal:
        console.print(_table(found))
    else:
        for summary in found:
            sys.stdout.write("\t".join(_cells(summary)) + "\n")


def transcript(
    context: typer.Context,
    call_id: Annotated[str, typer.Argument(help="The call, as `callscribe calls` lists it.")],
    format: Annotated[Format, typer.Option(help="Format of the result.")] = Format.TXT,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print segments as they arrive until the call is complete (txt, json).")
    ] = False,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Return when the call is complete; exit 1 after so many seconds.")
    ] = None,
    coverage: Annotated[
        bool,
        typer.Option(
            "--coverage", help="Print what became of every sample instead (txt, json); exit 1 if it does not add up."
        ),
    ] = False,
    output: Annotated[Path | None, typer.Option(help="File to write instead of stdout.")] = None,
) -> None:
    """Print the transcript of a call from the store.

    With --follow and --format json, each segment is one JSON object on a line of its own.
    """
    if follow and format not in (Format.TXT, Format.JSON):
        raise UsageError(f"--follow prints segment by segment: --format txt or json, not {format.value}")
    if coverage and (follow or format not in (Format.TXT, Format.JSON)):
        raise UsageError("--coverage prints an account: --format txt or json, and no --follow")
    if follow and output is not None:
        raise UsageError("--follow prints to stdout; leave out --output")
    from pipeline.sink.exports import FORMATS

    reader = _Reader(settings_of(context), call_id)
    try:
        deadline = None if wait is None else time.monotonic() + wait
        if follow:
            _follow(reader, format, deadline)
            return
        found = reader.read() if deadline is None else reader.wait(deadline)
        if found is None:
            raise FailedError(reader.missing)
        if coverage:
            _put_coverage(reader, format, output)
        else:
            _put(FORMATS[format](found), output)
        if deadline is not None and found.state != "complete":
            raise FailedError(f"call {call_id} is {found.state}, not complete after {wait:g} s; printed what there is")
    finally:
        reader.close()


class _Reader:
    """Reads one call from a store that may not be there yet."""

    def __init__(self, settings: Settings, call_id: str) -> None:
        self._settings = settings
        self._call_id = call_id
        self._store: Store | None = None
        self.missing = f"call {call_id} is not in the store"

    def read(self) -> Transcript | None:
        """Return the transcript, None when the store does not know the call. Raises NotReadyError."""
        from pipeline.sink.transcript import Transcript

        if self._store is None:
            self._store = _open(self._settings)
            self.missing = f"call {self._call_id} is not in the store {self._store.uri}; see: callscribe calls"
        stored = self._store.read(self._call_id)
        return None if stored is None else Transcript.from_stored(stored)

    def coverage(self) -> Coverage:
        """Return the account of a call that was read before. Raises NotReadyError."""
        from pipeline.sink.coverage import coverage_of

        assert self._store is not None
        stored = self._store.read(self._call_id)
        assert stored is not None
        return coverage_of(stored)

    def try_read(self) -> Transcript | None:
        """Return as `read`, None too while the store is away."""
        try:
            return self.read()
        except NotReadyError as error:
            self.missing = str(error)
            return None

    def wait(self, deadline: float) -> Transcript | None:
        """Return the transcript when the call is complete, or what there is at the deadline."""
        while True:
            found = self.try_read()
            if (found is not None and found.state == "complete") or time.monotonic() >= deadline:
                return found
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Release the store."""
        if self._store is not None:
            self._store.close()


def _put_coverage(reader: _Reader, format: Format, output: Path | None) -> None:
    account = reader.coverage()
    if format is Format.JSON:
        _put(json.dumps(account.to_document(), indent=2) + "\n", output)
    else:
        _put(account.to_text(), output)
    if account.problems:
        raise FailedError(f"the account of call {account.call_id} does not add up: {account.problems[0]}")


def _follow(reader: _Reader, format: Format, deadline: float | None) -> None:
    """Print each segment when it is first seen, and again when it was corrected, until the call is complete.

    Without a deadline the call must be known; with one it may still come. What is printed again, or was cut out of a line that stands
    there, is marked as corrected.
    """
    from pipeline.sink.exports.txt import to_line
    from pipeline.sink.transcript import segment_document

    printed: dict[str, int] = {}
    is_first = True
    while True:
        found = reader.read() if deadline is None else reader.try_read()
        if found is None and deadline is None:
            raise FailedError(reader.missing)
        segments, names = ((), {}) if found is None else (found.segments, found.names)
        for segment in segments:
            if printed.get(segment.segment_id) != segment.revision:
                if format is Format.JSON:
                    text = json.dumps(segment_document(segment), ensure_ascii=False)
                else:
                    name = names.get((segment.channel, segment.speaker))
                    text = to_line(segment, name, is_corrected=segment.revision > 0 and not is_first)
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
                printed[segment.segment_id] = segment.revision
        is_first = is_first and found is None
        if found is not None and found.state == "complete":
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise FailedError(
                reader.missing if found is None else f"call {found.call_id} is {found.state}, not complete"
            )
        time.sleep(POLL_SECONDS)


def _open(settings: Settings) -> Store:
    from pipeline.sink.stores import open_store

    return open_store(settings.store.url.get_secret_value(), settings.work_folder, create=False)


def _put(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise FailedError(f"{output}: cannot be written ({error.strerror})") from None
    note(f"wrote {output}")


def _summary(summary: CallSummary) -> dict[str, Any]:
    call = summary.call
    return {
        "call_id": call.call_id,
        "state": call.state,
        "started_at": _started_at(call.started_ms),
        "duration_seconds": call.duration_seconds,
        "tenant": call.tenant,
        "attributes": dict(call.attributes),
        "channels": [{"channel": one.channel, "role": one.role, "language": one.language} for one in call.channels],
        "segment_count": summary.segment_count,
        "gap_count": summary.gap_count,
        "degraded": list(summary.degraded),
    }


def _started_at(started_ms: int | None) -> str | None:
    """Return ISO 8601 in UTC."""
    if started_ms is None:
        return None
    return datetime.fromtimestamp(started_ms / 1000, UTC).isoformat(timespec="seconds")


def _cells(summary: CallSummary) -> tuple[str, ...]:
    call = summary.call
    return (
        call.call_id,
        call.state,
        _started_at(call.started_ms) or "-",
        "-" if call.duration_seconds is None else f"{call.duration_seconds:.1f} s",
        str(summary.segment_count),
        str(summary.gap_count),
        ", ".join(summary.degraded) or "-",
    )


def _table(found: tuple[CallSummary, ...]) -> Table:
    table = Table("call", "state", "started", box=None, header_style="bold")
    for name in ("duration", "segments", "gaps"):
        table.add_column(name, justify="right")
    table.add_column("degraded")
    for summary in found:
        table.add_row(*_cells(summary))
    return table
