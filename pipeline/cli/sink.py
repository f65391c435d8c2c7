"""The sink's process, run by ``callscribe worker sink``."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.runtime.settings import Settings


def run_sink(settings: Settings, status_file: Path | None, patience_seconds: float) -> None:
    """Write call.segments to the store until SIGTERM.

    Raises NotReadyError when the broker, the store or the registry is not there at the start, and not within ``patience_seconds``.
    """
    from pipeline.runtime import logs
    from pipeline.runtime.consume import consume
    from pipeline.runtime.deletions import Deletions
    from pipeline.runtime.provisioning import patiently, schema_source, wait_for_topics
    from pipeline.runtime.starts import CallStarts
    from pipeline.sink.stage import Sink
    from pipeline.sink.stores import open_store
    from schemas.codec import Codec

    logs.configure(stage="sink", level=settings.runtime.log_level, style=settings.runtime.log_format)
    sink = Sink(lambda: open_store(settings.store.url.get_secret_value(), settings.work_folder))

    def assigned(count: int) -> None:
        logging.getLogger("callscribe.worker").info("ready", extra={"partitions": count})
        if status_file is not None:
            status_file.parent.mkdir(parents=True, exist_ok=True)
            status_file.write_text(str(os.getpid()), encoding="ascii")

    patiently(sink.open, patience_seconds)
    wait_for_topics(settings, patience_seconds)
    try:
        codec = Codec(patiently(lambda: schema_source(settings, is_writer=True), patience_seconds))
        deletions = Deletions(CallStarts(settings, codec))
        write = partial(sink.write, lost=deletions)
        consume(settings, write=write, on_assigned=assigned, codec=codec, deletions=deletions)
    finally:
        sink.close()
