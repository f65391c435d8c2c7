"""Transcript formats: one pure function per format, one file each.

Every function takes a `Transcript` and returns the whole text of a file, the same for the same transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pipeline.sink.exports.csv import to_csv
from pipeline.sink.exports.json import to_json
from pipeline.sink.exports.rttm import to_rttm
from pipeline.sink.exports.srt import to_srt
from pipeline.sink.exports.txt import to_txt
from pipeline.sink.exports.vtt import to_vtt
from pipeline.sink.transcript import Transcript

FORMATS: Mapping[str, Callable[[Transcript], str]] = MappingProxyType(
    {"txt": to_txt, "json": to_json, "srt": to_srt, "vtt": to_vtt, "rttm": to_rttm, "csv": to_csv}
)
