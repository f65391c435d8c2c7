"""The diarization error rate, as pyannote.metrics counts it."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

from pipeline.bench.diarization.figures import Accuracy, DiarizationErrors, Mapped, label_changes, word_errors
from pipeline.bench.diarization.recordings import Recording, Speech
from pipeline.core.errors import NotReadyError
from pipeline.core.speakers import UNKNOWN

COLLAR_SECONDS = 0.25  # left out on each side of a boundary of the reference, as NIST's md-eval does with -c 0.25


def check_metrics() -> None:
    """Raise NotReadyError when pyannote.metrics is not installed."""
    try:
        is_there = importlib.util.find_spec("pyannote.metrics") is not None
    except ModuleNotFoundError:  # nothing of pyannote
        is_there = False
    if not is_there:
        raise NotReadyError(
            "bench diarization needs pyannote.metrics of the extra `diarization`, which is not installed: run `make setup-full`"
        )


def accuracy(recording: Recording, output: Speech, audio_seconds: float) -> Accuracy:
    """Return how right an output is, over the whole recording. Labels are mapped to speakers so that the most time agrees."""
    reference = recording.speech
    strict, mapped = diarization_errors(reference, output, audio_seconds)
    return Accuracy(
        strict=strict,
        forgiving=diarization_errors(reference, output, audio_seconds, collar_seconds=COLLAR_SECONDS)[0],
        has_words=bool(recording.words),
        word_errors=word_errors(reference, recording.words, output, mapped),
        label_changes=label_changes(reference, recording.turns, output),
        speakers=len(output.keys() - {UNKNOWN}),
    )


def diarization_errors(
    reference: Speech, output: Speech, audio_seconds: float, *, collar_seconds: float = 0.0
) -> tuple[DiarizationErrors, Mapped]:
    """Return the errors between 0 and ``audio_seconds``, overlapped speech included, and which label is which speaker.

    ``collar_seconds`` are left out before and behind every boundary of the reference, as by md-eval and dscore. pyannote's ``collar``
    is the length of what is left out around a boundary, twice as much. ``unknown`` is a label as any other.
    """
    with warnings.catch_warnings(action="ignore"):  # of the packages' own imports
        from pyannote.core import Segment, Timeline
        from pyannote.metrics.diarization import DiarizationErrorRate

    metric = DiarizationErrorRate(collar=2 * collar_seconds, skip_overlap=False)
    said, heard = _annotation(reference), _annotation(output)
    extent = Timeline([Segment(0.0, audio_seconds)])
    found = metric.compute_components(said, heard, uem=extent)
    mapped: Mapped = metric.optimal_mapping(said, heard, uem=extent)
    errors = DiarizationErrors(
        total=float(found["total"]),
        missed=float(found["missed detection"]),
        false_alarm=float(found["false alarm"]),
        confusion=float(found["confusion"]),
    )
    return errors, mapped


def _annotation(speech: Speech) -> Any:
    from pyannote.core import Annotation, Segment

    annotation = Annotation(uri="bench")
    for label, spans in speech.items():
        for start, end in spans:
            annotation[Segment(start, end), label] = label
    return annotation
