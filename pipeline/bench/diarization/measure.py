"""Recordings through the stages, one after the other in this process, and what is counted of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.bench.diarization.baseline import Baseline
from pipeline.bench.diarization.figures import Compared, Cost, RecordingFigures, latencies, output_of
from pipeline.bench.diarization.recordings import Recording
from pipeline.bench.diarization.running import Engines, Speakers, diarize, engines_of
from pipeline.bench.diarization.scoring import accuracy, check_metrics
from pipeline.runtime.settings import Settings


def measure(
    recordings: Sequence[Recording],
    settings: Settings,
    *,
    speakers: Speakers,
    with_baseline: bool = False,
    engines: Engines | None = None,
    on_progress: Callable[[Recording, float], None] = lambda recording, seconds: None,
    on_figures: Callable[[RecordingFigures], None] = lambda figures: None,
) -> tuple[RecordingFigures, ...]:
    """Return the figures of every recording, in order. ``engines`` stand for those of the settings.

    ``on_progress`` hears how many seconds of a recording have been fed, ``on_figures`` of each recording that is done. Raises
    NotReadyError when the extra or a model is missing, InputError when a recording cannot be read.
    """
    check_metrics()
    engines = engines or engines_of(settings)
    baseline = Baseline(settings) if with_baseline else None
    figures = []
    for recording in recordings:
        found = measure_one(
            recording,
            settings,
            engines,
            speakers=speakers,
            baseline=baseline,
            on_progress=lambda seconds, recording=recording: on_progress(recording, seconds),  # type: ignore[misc]
        )
        on_figures(found)
        figures.append(found)
    return tuple(figures)


def measure_one(
    recording: Recording,
    settings: Settings,
    engines: Engines,
    *,
    speakers: Speakers,
    baseline: Baseline | None,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> RecordingFigures:
    """Return the figures of one recording."""
    done = diarize(recording.path, settings, engines, speakers, on_progress=on_progress)
    output = output_of(done.written, done.audio_seconds)
    final, never = latencies(recording.speech, done.written)
    return RecordingFigures(
        name=recording.name,
        group=recording.group,
        reference=recording.speech,
        output=output,
        accuracy=accuracy(recording, output, done.audio_seconds),
        cost=Cost(audio_seconds=done.audio_seconds, cpu_seconds=done.cpu_seconds, wall_seconds=done.wall_seconds),
        latencies=final,
        never_final=never,
        baseline=_compared(recording, baseline) if baseline else None,
    )


def _compared(recording: Recording, baseline: Baseline) -> Compared:
    output, cost = baseline.run(recording.path)
    return Compared(output=output, accuracy=accuracy(recording, output, cost.audio_seconds), cost=cost)
