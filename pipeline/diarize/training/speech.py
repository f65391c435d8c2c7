"""What the voices say: call-centre sentences, one file of speech for each voice.

What a voice says depends on the seed, its name and the synthesizers' versions alone. Files that are there are kept, so that a run that
broke off continues.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.diarize.training.texts import draw_text
from pipeline.diarize.training.voices import FESTIVAL_PACKAGES, SETS, Program, Voice
from pipeline.diarize.window import RATE, Floats

ESPEAK_RATE = 22_050
WAV_HEADER_BYTES = 44
WORDS_PER_MINUTE, PITCH = (135, 190), (35, 65)  # of espeak-ng
STRETCH = (0.85, 1.15)  # of flite
FESTIVAL_SENTENCES = 8  # at once: loading a voice takes longer than a sentence
PEAK = 0.5
SHORTEST_SAMPLES, LOWEST_PEAK = RATE // 2, 1e-3  # of a text that was spoken
MAX_UNSPOKEN = 4  # some voices cannot say every English word
TIMEOUT_SECONDS = 300.0
PROGRAMS: Mapping[Program, str] = {"espeak-ng": "espeak-ng", "festival": "text2wave", "flite": "flite"}


def make_speech(folder: Path, *, seed: int, threads: int) -> Iterator[str]:
    """Write what every voice says, ``<set>/<voice>.npz``; yields a line of progress for each.

    Raises NotReadyError when a program or a voice is missing, UsageError when the folder holds speech of another seed or of other
    synthesizers.
    """
    jobs = [(name, voice) for name, voices in SETS.items() for voice in voices]
    versions = check_voices([voice for _, voice in jobs])
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(_make, folder / name, voice, seed, versions[voice.program]) for name, voice in jobs]
        try:
            for done, future in enumerate(as_completed(running), start=1):
                voice, seconds = future.result()
                yield f"{done} of {len(jobs)} voices: {voice.program} {voice.name}, {seconds:.0f} s"
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def load_speech(folder: Path, name: str) -> list[NDArray[np.int16]]:
    """Return what each voice of a set says, int16, 16 kHz, in the order of the set. Raises NotReadyError when some is missing."""
    found = []
    for voice in SETS[name]:
        path = _path(folder / name, voice)
        if not path.exists():
            raise NotReadyError(f"{path} is missing: make the speech first")
        with np.load(path) as document:
            found.append(document["audio"])
    return found


def check_voices(voices: Sequence[Voice]) -> dict[Program, str]:
    """Return the versions of the programs that speak. Raises NotReadyError naming what is not installed.

    espeak-ng speaks on with a language's own voice when it does not know a variant, festival says nothing and exits with 0.
    """
    versions = {program: _version(program) for program in dict.fromkeys(voice.program for voice in voices)}
    if "festival" in versions:
        known = set(re.findall(r"[\w-]+", _output("festival", "-b", "(begin (print (voice.list)))")))
        for voice in voices:
            if voice.program == "festival" and voice.name not in known:
                raise NotReadyError(f"festival has no voice {voice.name}: install {FESTIVAL_PACKAGES[voice.name]}")
    if "espeak-ng" in versions:
        variants = set(re.findall(r"!v/(.+?)(?:\s\s|$)", _output("espeak-ng", "--voices=variant"), re.MULTILINE))
        for voice in voices:
            variant = voice.name.partition("+")[2]
            if voice.program == "espeak-ng" and variant and variant not in variants:
                raise NotReadyError(f"espeak-ng has no variant {variant}: install espeak-ng-data 1.51")
    return versions


def speak(text: str, voice: Voice, source: random.Random) -> Floats:
    """Return a text in a voice, float32 at 16 kHz; empty where the voice cannot say it. Draws rate and pitch.

    Raises NotReadyError when the program fails or does not end.
    """
    import soundfile
    import soxr

    with tempfile.TemporaryDirectory() as folder:
        wav, words = Path(folder) / "speech.wav", Path(folder) / "text.txt"
        if voice.program == "espeak-ng":
            rate, pitch = source.randint(*WORDS_PER_MINUTE), source.randint(*PITCH)
            _run("espeak-ng", "-v", voice.name, "-s", str(rate), "-p", str(pitch), "-w", str(wav), text)
        elif voice.program == "flite":
            stretch = f"duration_stretch={source.uniform(*STRETCH):.2f}"
            _run("flite", "-voice", voice.name, "-t", text, "-o", str(wav), "--setf", stretch)
        else:
            words.write_text(text, encoding="utf-8")
            _run("text2wave", "-eval", f"(voice_{voice.name})", str(words), "-o", str(wav))
        if not wav.exists() or wav.stat().st_size <= WAV_HEADER_BYTES:
            return np.zeros(0, dtype=np.float32)
        audio, rate = soundfile.read(wav, dtype="float32")
    return np.asarray(soxr.resample(audio, rate, RATE), dtype=np.float32)


def say(voice: Voice, seed: int) -> NDArray[np.int16]:
    """Return what a voice says, at least its seconds unless too much of it is unspoken; int16, 16 kHz.

    Raises NotReadyError when it says nothing.
    """
    source = random.Random(f"{seed}/{voice.program}/{voice.name}")
    sentences = FESTIVAL_SENTENCES if voice.program == "festival" else 1
    between = " . " if voice.language == "en" else " "  # a pause; the Russian voice fails on a full stop by itself
    pieces: list[Floats] = []
    unspoken = 0
    while sum(map(len, pieces)) < voice.seconds * RATE and unspoken < MAX_UNSPOKEN:
        audio = speak(between.join(draw_text(voice.language, source) for _ in range(sentences)), voice, source)
        peak = float(np.abs(audio).max(initial=0.0))
        if len(audio) < SHORTEST_SAMPLES or peak < LOWEST_PEAK:
            unspoken += 1
        else:
            pieces.append(audio * PEAK / peak)
    if not pieces:
        raise NotReadyError(f"{voice.program} does not speak in the voice {voice.name}")
    return (np.concatenate(pieces) * 32767).astype(np.int16)


def _make(folder: Path, voice: Voice, seed: int, version: str) -> tuple[Voice, float]:
    """Write what a voice says unless it is there; return its seconds."""
    path = _path(folder, voice)
    origin: dict[str, Any] = {"seed": seed, "version": version, "seconds": voice.seconds}
    if path.exists():
        with np.load(path) as document:
            found, samples = json.loads(str(document["origin"])), len(document["audio"])
        if found != origin:
            raise UsageError(f"{path} was made from {found}, not from {origin}: choose another folder")
        return voice, samples / RATE
    audio = say(voice, seed)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, audio=audio, origin=json.dumps(origin))
    os.replace(partial, path)
    return voice, len(audio) / RATE


def _path(folder: Path, voice: Voice) -> Path:
    return folder / f"{voice.file_name}.npz"


def _version(program: Program) -> str:
    if shutil.which(PROGRAMS[program]) is None:
        raise NotReadyError(
            f"{program} is not installed ({PROGRAMS[program]} cannot be found); it is needed to train, not to run callscribe"
        )
    found = re.search(r"\d+\.\d+(\.\d+)?", _output(program, "--version"))
    return found.group() if found else "unknown"


def _run(*command: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotReadyError(f"{command[0]} does not work ({type(error).__name__})") from None


def _output(*command: str) -> str:
    done = _run(*command)
    return (done.stdout + done.stderr).decode("utf-8", "replace")
