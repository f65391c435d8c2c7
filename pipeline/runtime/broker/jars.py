"""Apache Kafka's jars: resolved once by jgo, pinned by digest, shared by every checkout of this user.

``jars.lock`` names every jar with its sha256. What a resolve brings is compared with it before it enters the cache, and
the cache is compared with it at every start, so a broker never runs on a jar nobody has tested.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.core.errors import NotReadyError

KAFKA_VERSION = "4.1.0"
# slf4j-simple, because a log4j binding in the same resolve makes jgo choose an older kafka-clients.
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
LOCK = Path(__file__).with_name("jars.lock")


def ensure_jars(*, progress: Callable[[str], None]) -> Path:
    """Return the folder that holds exactly the pinned jars; fetch them when it does not.

    ``progress`` receives a line before a fetch. Two processes may call this at once. Raises NotReadyError: no network,
    a jar with another digest, a cache folder that cannot be written.
    """
    pinned = read_lock()
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    if not mismatches(folder, pinned):
        return folder
    with _locked(cache_folder() / "kafka.lock"):
        if mismatches(folder, pinned):  # the process that held the lock may have fetched them
            progress(f"fetching Apache Kafka {KAFKA_VERSION} (45 MB, once)")
            _fetch(folder, pinned)
    return folder


def cache_folder() -> Path:
    """Return the folder for what is fetched once per user (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).expanduser() / "callscribe"


def read_lock(path: Path = LOCK) -> dict[str, str]:
    """Return the sha256 of every pinned jar by its file name."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {name: digest for digest, name in lines}


def mismatches(folder: Path, pinned: dict[str, str]) -> list[str]:
    """Return what keeps ``folder`` from holding exactly the pinned jars: a line per missing, changed or foreign jar."""
    present = {path.name: path for path in folder.glob("*.jar")}
    found = [f"{name} is missing" for name in pinned if name not in present]
    found += [f"{name} is not pinned" for name in present if name not in pinned]
    for name, path in present.items():
        if name in pinned and (actual := _sha256(path)) != pinned[name]:
            found.append(f"{name} has sha256 {actual[:12]}..., pinned is {pinned[name][:12]}...")
    return sorted(found)


def _fetch(folder: Path, pinned: dict[str, str]) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as temporary:
            complete = Path(temporary) / "complete"
            _resolve(Path(temporary) / "jgo", complete)
            wrong = mismatches(complete, pinned)
            if wrong:
                raise NotReadyError(
                    f"Apache Kafka {KAFKA_VERSION} was fetched, but {wrong[0]}"
                    + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
                    + ": remove that jar from the local Maven repository (~/.m2/repository) and try again"
                )
            if folder.exists():
                shutil.rmtree(folder)
            complete.rename(folder)
    except OSError as error:
        raise NotReadyError(
            f"the cache {folder.parent} cannot be written ({error.strerror or type(error).__name__})"
        ) from error


def _resolve(work: Path, target: Path) -> None:
    """Copy every jar of the endpoint into ``target``. Raises NotReadyError when it cannot be fetched."""
    import jgo

    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout belongs to the command's result
            jgo.build(endpoint=ENDPOINT, cache_dir=work)
    except Exception as error:  # jgo raises whatever its HTTP client, XML parser and files do
        # The text of requests' errors (which are OSErrors) is a page long; their class says it: ConnectionError.
        reason = type(error).__name__ if isinstance(error, OSError) else " ".join(str(error).split())[:200]
        raise NotReadyError(
            f"Apache Kafka {KAFKA_VERSION} cannot be fetched ({reason}): connect this machine to a Maven repository "
            "once, or name a broker of yours in CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS"
        ) from error
    target.mkdir()
    for jar in work.rglob("*.jar"):
        shutil.copyfile(jar, target / jar.name)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except OSError as error:
        raise NotReadyError(f"the cache {path.parent} cannot be written ({error.strerror})") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock() -> None:
    """Resolve the endpoint and replace ``jars.lock`` by what came."""
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "complete"
        _resolve(Path(temporary) / "jgo", target)
        lines = [
            f"# sha256 and name of every jar of {ENDPOINT}.",
            "# Written by: python -m pipeline.runtime.broker.jars (resolves again and replaces this file).",
            *(f"{_sha256(jar)}  {jar.name}" for jar in sorted(target.iterdir())),
        ]
    LOCK.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_lock()
