"""The speaker encoder's weights, out of the wheel of resemblyzer that they were published in."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import NotReadyError, UsageError

REQUIREMENT = "resemblyzer==0.1.4"
SHA256 = "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f"
PATTERN = "[Rr]esemblyzer-0.1.4-*.whl"
MEMBER = "resemblyzer/pretrained.pt"
LAYERS = ("lstm.", "linear.")  # what is left out scales similarities in training
DOWNLOAD_SECONDS = 600.0


def fetch_wheel(folder: Path) -> Path:
    """Return the wheel in ``folder``, downloaded by pip from where that is set up to download from, unless it is there.

    Raises NotReadyError when it cannot be had, UsageError when it is not the one of 0.1.4.
    """
    if not list(folder.glob(PATTERN)):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        try:
            done = subprocess.run(
                [*command, "--dest", str(folder), REQUIREMENT],
                capture_output=True,
                text=True,
                check=False,
                timeout=DOWNLOAD_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise NotReadyError(f"{REQUIREMENT} cannot be downloaded: no end after {DOWNLOAD_SECONDS:g} s") from None
        if done.returncode:
            reason = " ".join(done.stderr.split())[-200:]
            raise NotReadyError(f"{REQUIREMENT} cannot be downloaded ({reason}): get its wheel and give it by --wheel")
    return check_wheel(next(iter(sorted(folder.glob(PATTERN))), folder / REQUIREMENT))


def check_wheel(path: Path) -> Path:
    """Return ``path``. Raises NotReadyError when there is no such file, UsageError when its digest is another."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotReadyError(f"{path} cannot be read ({error.strerror})") from None
    if digest != SHA256:
        raise UsageError(f"{path} is damaged or not the wheel of {REQUIREMENT}: its SHA-256 is {digest}")
    return path


def encoder_weights(wheel: Path) -> dict[str, Any]:
    """Return the weights of the encoder's layers in float16, named as in `pipeline.diarize.encoder.SpeakerEncoder`."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["model_state"]
    return {name: value.half() for name, value in weights.items() if name.startswith(LAYERS)}
