"""``callscribe replay``: the same logic and engines in one process, without Kafka."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import note, settings_of
from pipeline.cli.ingest import (
    Attribute,
    Channels,
    Controls,
    Encoding,
    HotWord,
    Language,
    Policy,
    Prompt,
    Rate,
    Role,
    SpeakerCount,
    Task,
    Tenant,
)
from pipeline.cli.transcript import Format


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: callscribe replay recording.wav --format srt > recording.srt")(replay)


def replay(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A recording, or - for a pipe.")],
    format: Annotated[Format, typer.Option("--format", help="Format of the transcript on stdout.")] = Format.TXT,
    call_id: Annotated[str, typer.Option("--call-id", help="Name of the call in the output.")] = "replay",
    role: Role = None,
    encoding: Encoding = None,
    rate: Rate = None,
    channels: Channels = None,
    language: Language = None,
    prompt: Prompt = None,
    hot_word: HotWord = None,
    policy: Policy = None,
    task: Task = None,
    speakers: SpeakerCount = None,
    attribute: Attribute = None,
    tenant: Tenant = None,
    controls: Controls = None,
    model: Annotated[str | None, typer.Option(help="Model name or folder (setting asr.model).")] = None,
) -> None:
    """Transcribe one recording in this process, without a broker: the reference that every distributed run must equal."""
    from pipeline.asr.catalogue import check_language
    from pipeline.ingest.decode import open_audio
    from pipeline.ingest.feed import records
    from pipeline.ingest.options import feed_options, raw_format
    from pipeline.replay import Replay
    from pipeline.sink.exports import FORMATS
    from pipeline.sink.transcript import Transcript

    settings = settings_of(context, asr__model=model)
    limit = settings.ingest.max_channels
    raw = raw_format(encoding=encoding, rate=rate, channels=channels, max_channels=limit)
    options = feed_options(
        roles=role or (),
        language=language,
        prompt=prompt,
        hot_words=hot_word or (),
        policy=policy,
        task=task,
        speakers=speakers,
        attributes=attribute or (),
        tenant=tenant,
        controls=controls,
        record_seconds=settings.ingest.record_seconds,
    )
    if language is not None:  # that of the settings is checked with the model
        check_language(settings.asr, language, None)
    is_pipe = source == "-"
    with open_audio(sys.stdin.buffer if is_pipe else Path(source), name=source, raw=raw, max_channels=limit) as audio:
        pipeline = Replay(settings)
        fed = records(audio, options, call_id=call_id, capture_start_ms=0)
        transcript = Transcript.from_records(pipeline.segments(fed))
    sys.stdout.write(FORMATS[format.value](transcript))
    note(f"{len(transcript.segments)} segments, {transcript.state}")
    if transcript.degraded:
        note(f"{len(transcript.degraded)} spans are degraded: --format json says where and why")
