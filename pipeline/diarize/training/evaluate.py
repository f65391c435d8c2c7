"""What a head makes of windows of 5 s: examples, and recordings with RTTM."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.core.errors import InputError, NotReadyError, UsageError
from pipeline.diarize.encoder import SpeakerEncoder
from pipeline.diarize.segmentation import Segmentation, SegmentationHead, members
from pipeline.diarize.training.acoustics import WINDOW_FRAMES, WINDOW_SAMPLES
from pipeline.diarize.training.baseline import OneSpeaker
from pipeline.diarize.training.errors import LocalErrors, local_errors
from pipeline.diarize.training.examples import Shard
from pipeline.diarize.window import FRAME, FRAMES_PER_SECOND, RATE, Flags, Floats, active_of

THRESHOLD = 0.5  # the default of diarize.threshold
HOP_SECONDS = 1.0  # between the windows of a recording
COLLAR_SECONDS = 0.25  # as NIST's evaluations of telephone speech left out
BATCH = 50
SUFFIXES = (".wav", ".flac")


def load_head(path: Path) -> SegmentationHead:
    """Return the head of a file of weights. Raises NotReadyError when there is none, UsageError when it does not fit."""
    if not path.exists():
        raise NotReadyError(f"{path} is missing: train first")
    head = SegmentationHead()
    try:
        weights: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        head.load_state_dict({name: value.float() for name, value in weights.items()})
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise UsageError(f"{path} holds no segmentation head ({type(error).__name__})") from None
    head.eval()
    return head


def errors_of(head: nn.Module, shards: Sequence[Shard], *, collar_seconds: float = 0.0) -> LocalErrors:
    """Return the errors of examples."""
    collar = round(collar_seconds * FRAMES_PER_SECOND)
    head.eval()
    total = LocalErrors()
    for shard in shards:
        for first in range(0, len(shard.active), BATCH):
            features = np.asarray(shard.features[first : first + BATCH], dtype=np.float32)
            with torch.inference_mode():
                scores = (head(torch.from_numpy(features)).exp() @ members()).numpy()
            for said, heard in zip(shard.active[first : first + BATCH], scores, strict=True):
                total += local_errors(said, active_of(heard, THRESHOLD), collar_frames=collar)
    return total


def errors_in_recordings(
    head: nn.Module, encoder: Path, folder: Path, *, hop_seconds: float = HOP_SECONDS, collar_seconds: float = 0.0
) -> dict[str, LocalErrors]:
    """Return the errors of every recording of a folder that has an RTTM file of the same name, over windows of 5 s.

    Channels are mixed; the last window is filled with zeros. Raises UsageError when there is no such recording, InputError naming one
    that cannot be used.
    """
    model = Segmentation(SpeakerEncoder.load(encoder), head).eval()
    hop, collar = round(hop_seconds * FRAMES_PER_SECOND), round(collar_seconds * FRAMES_PER_SECOND)
    found = {}
    for path in sorted(one for one in folder.iterdir() if one.suffix.lower() in SUFFIXES):
        turns = path.with_suffix(".rttm")
        if not turns.exists():
            continue
        samples = _samples_of(path)
        windows = math.ceil(max(0, len(samples) - WINDOW_SAMPLES) / (hop * FRAME)) + 1
        frames = (windows - 1) * hop + WINDOW_FRAMES
        samples = np.pad(samples, (0, frames * FRAME - len(samples)))
        said = frames_of(turns.read_text(encoding="utf-8"), frames, name=turns.name)
        total = LocalErrors()
        for first in range(0, windows * hop, hop):
            window = torch.from_numpy(samples[first * FRAME :][:WINDOW_SAMPLES])
            with torch.inference_mode():
                heard = model(window[None, None])[0].numpy()
            part = said[first : first + WINDOW_FRAMES]
            total += local_errors(part[:, part.any(axis=0)], active_of(heard, THRESHOLD), collar_frames=collar)
        found[path.stem] = total
    if not found:
        raise UsageError(f"{folder} has no recording ({', '.join(SUFFIXES)}) with an .rttm file of the same name")
    return found


def frames_of(text: str, frames: int, *, name: str) -> Flags:
    """Return who speaks when by the SPEAKER lines of an RTTM file: bool [frames of 20 ms, speakers]. Raises InputError."""
    turns = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start, seconds, speaker = float(fields[3]), float(fields[4]), fields[7]
        except (ValueError, IndexError):
            raise InputError(f"{name}:{number}", "not a SPEAKER line of RTTM") from None
        turns.append((round(start * FRAMES_PER_SECOND), round((start + seconds) * FRAMES_PER_SECOND), speaker))
    speakers = sorted({speaker for _, _, speaker in turns})
    said = np.zeros((frames, len(speakers)), dtype=np.bool_)
    for first, last, speaker in turns:
        said[max(0, first) : max(0, last), speakers.index(speaker)] = True
    return said


def document_of(head: SegmentationHead, sets: Mapping[str, Sequence[Shard]]) -> dict[str, Any]:
    """Return the figures of sets of examples as JSON writes them."""
    return {name: errors_of(head, shards).document() for name, shards in sets.items()}


def compared(errors: Callable[[nn.Module, float], dict[str, LocalErrors]], head: nn.Module) -> dict[str, Any]:
    """Return the figures of a head with and without a collar, and those of `OneSpeaker`, as JSON writes them.

    ``errors`` takes a head and a collar in seconds and returns the errors by name.
    """
    collar = f"collar {COLLAR_SECONDS:g} s"
    found = errors(head, 0.0)
    found |= {f"{name}, {collar}": one for name, one in errors(head, COLLAR_SECONDS).items()}
    found |= {f"{name}, by energy alone": one for name, one in errors(OneSpeaker(), 0.0).items()}
    found |= {f"{name}, by energy alone, {collar}": one for name, one in errors(OneSpeaker(), COLLAR_SECONDS).items()}
    return {name: found[name].document() for name in sorted(found)}


def table(document: Mapping[str, Mapping[str, Any]]) -> str:
    """Return figures as a Markdown table."""
    lines = [
        "| windows of 5 s | speech | missed | false alarm | confusion | local error |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in document.items():
        columns = (row[column] for column in ("missed", "false_alarm", "confusion", "error"))
        shares = ("-" if share is None else f"{share:.1%}" for share in columns)
        lines.append(f"| {name} | {row['speech_frames'] / FRAMES_PER_SECOND:.0f} s | {' | '.join(shares)} |")
    return "\n".join(lines)


def write_evaluation(document: Mapping[str, Any], folder: Path) -> None:
    """Write ``evaluation.json`` and ``evaluation.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "evaluation.md").write_text(table(document) + "\n", encoding="utf-8")


def _samples_of(path: Path) -> Floats:
    """Return a recording as the models are given it: int16 steps, one channel, 16 kHz."""
    import soundfile
    import soxr

    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise InputError(str(path), f"cannot be read ({type(error).__name__})") from None
    mixed: NDArray[np.float32] = soxr.resample(audio.mean(axis=1), rate, RATE).astype(np.float32)
    whole = len(mixed) // FRAME * FRAME
    return np.asarray(np.clip(mixed[:whole], -1, 1), dtype=np.float32)
