"""What is missing or wrong on this machine, and the command that mends it.

Every check looks and changes nothing: no download, no folder, no topic is made. A check that is not met is an ``error`` when
callscribe cannot run as it is set up, and a ``hint`` when something is merely not there yet.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from pipeline.core.errors import CallscribeError, NotReadyError
from pipeline.runtime.settings import Settings

PYTHONS = ((3, 11), (3, 12))
TESTED = "Linux x86_64"
EXPECTED = ("Linux aarch64", "Darwin arm64")
EXTRAS = ("torch", "diart", "pyannote.audio")
MEGABYTE = 1024 * 1024
DISK_ERROR, DISK_HINT = 256 * MEGABYTE, 2048 * MEGABYTE  # below the first the embedded broker does not start
MEMORY_ERROR, MEMORY_HINT = 768 * MEGABYTE, 2048 * MEGABYTE  # one worker per stage with the demo model, and the broker
FILES_HINT = 1024
NAME_OF_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")
USE_ANOTHER_FOLDER = "CALLSCRIBE_RUNTIME__WORK_FOLDER=<another folder> callscribe doctor"

Status = Literal["ok", "info", "hint", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check; ``remedy`` is the command that mends it, None where there is nothing to mend."""

    check: str
    status: Status
    detail: str
    remedy: str | None = None


Check = Callable[[Settings], Iterable[Finding]]


def examine(settings: Settings, checks: Iterable[tuple[str, Check]] | None = None) -> Iterator[Finding]:
    """Yield the findings of every check, in order; a check that breaks is a finding too."""
    for name, check in CHECKS if checks is None else checks:
        try:
            yield from check(settings)
        except CallscribeError as error:
            yield Finding(check=name, status="error", detail=str(error))
        except Exception as error:  # one broken check must not hide the others; its text may quote anything
            yield Finding(check=name, status="error", detail=f"the check itself failed ({type(error).__name__})")


# -- this machine ------------------------------------------------------------------------------------------------------


def check_python(settings: Settings) -> Iterator[Finding]:
    """Python's version and the platform."""
    version = ".".join(map(str, sys.version_info[:3]))
    machine = f"{platform.system()} {platform.machine()}"
    detail = f"Python {version} on {machine}"
    if sys.version_info[:2] not in PYTHONS:
        yield Finding(
            check="python",
            status="error",
            detail=f"{detail}: 3.11 or 3.12 is needed",
            remedy="make setup PYTHON=python3.11",
        )
    elif machine == TESTED:
        yield Finding(check="python", status="ok", detail=detail)
    elif machine in EXPECTED:
        yield Finding(check="python", status="hint", detail=f"{detail}: should work; tested on {TESTED}")
    else:
        yield Finding(check="python", status="error", detail=f"{detail}: {TESTED}, {' or '.join(EXPECTED)} is needed")


def check_packages(settings: Settings) -> Iterator[Finding]:
    """The packages callscribe is declared to need, and the extra that is optional."""
    missing = [name for name in required_packages() if installed(name) is None]
    if missing:
        yield Finding(
            check="packages", status="error", detail=f"not installed: {', '.join(missing)}", remedy="make setup"
        )
    else:
        yield Finding(
            check="packages", status="ok", detail=f"{len(required_packages())} required packages are installed"
        )
    found = {name: installed(name) for name in EXTRAS}
    versions = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    absent = ", ".join(name for name, version in found.items() if not version)
    if not absent:
        yield Finding(check="extras", status="info", detail=f"diarization: {versions}")
    else:
        partly = f" (there: {versions})" if versions else ""
        detail = f"diarization: {absent} not installed{partly}; calls with one channel per speaker do not need it"
        yield Finding(check="extras", status="info", detail=detail, remedy="make setup-full")


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Work folder, disk, memory, file handles."""
    folder = settings.work_folder
    yield _writable(folder)
    free = shutil.disk_usage(existing(folder)).free
    yield _at_least("disk", free, DISK_ERROR, DISK_HINT, f"free for {folder}", remedy=USE_ANOTHER_FOLDER)
    yield _at_least("memory", available_memory(), MEMORY_ERROR, MEMORY_HINT, "of memory available")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES_HINT:
        yield Finding(check="files", status="ok", detail="enough open files are allowed")
    else:
        wanted = FILES_HINT if hard == resource.RLIM_INFINITY else min(FILES_HINT, hard)
        yield Finding(
            check="files",
            status="hint",
            detail=f"{soft} open files are allowed; Kafka wants {FILES_HINT}",
            remedy=f"ulimit -n {wanted}",
        )


# -- Kafka -------------------------------------------------------------------------------------------------------------


def check_java(settings: Settings) -> Iterator[Finding]:
    """A Java runtime for the embedded broker."""
    from pipeline.runtime.broker.java import find_java

    if not settings.is_embedded:
        yield Finding(check="java", status="info", detail="not needed: kafka.bootstrap_servers names a broker")
        return
    try:
        java = find_java()
    except NotReadyError as error:
        yield Finding(check="java", status="error", detail=str(error), remedy="make setup")
        return
    yield Finding(check="java", status="ok", detail=f"Java {java.version} from {java.origin}: {java.executable}")


def check_jars(settings: Settings) -> Iterator[Finding]:
    """Apache Kafka's jars in the user's cache, compared with the pinned digests."""
    from pipeline.runtime.broker import jars

    if not settings.is_embedded:
        yield Finding(check="jars", status="info", detail="not needed: kafka.bootstrap_servers names a broker")
        return
    pinned = jars.read_lock()
    digest = hashlib.sha256(jars.LOCK.read_bytes()).hexdigest()[:12]
    folder = jars.cache_folder() / f"kafka-{jars.KAFKA_VERSION}-{digest}"
    fetch = "callscribe broker start"
    if not folder.exists():
        detail = f"Apache Kafka {jars.KAFKA_VERSION} is not in {folder.parent}: 45 MB, fetched once at the first start"
        yield Finding(check="jars", status="hint", detail=detail, remedy=fetch)
        return
    wrong = jars.mismatches(folder, pinned)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        detail = f"{folder}: {wrong[0]}{more}; fetched again at the next start"
        yield Finding(check="jars", status="hint", detail=detail, remedy=fetch)
    else:
        yield Finding(
            check="jars",
            status="ok",
            detail=f"Apache Kafka {jars.KAFKA_VERSION}: {len(pinned)} jars with the pinned digests",
        )


def check_broker(settings: Settings) -> Iterator[Finding]:
    """The broker, its port where it is not running, and the declared topics."""
    from pipeline.runtime.provisioning import plan_topics

    if settings.is_embedded:
        finding = _embedded(settings)
        if finding.status != "ok":
            yield finding
            yield Finding(check="topics", status="info", detail="not looked at while the broker does not run")
            return
    try:
        changes = plan_topics(settings)
    except NotReadyError as error:
        remedy = (
            "callscribe broker stop && callscribe broker start"
            if settings.is_embedded
            else "callscribe config show --changed"
        )
        yield Finding(check="broker", status="error", detail=str(error), remedy=remedy)
        return
    if settings.is_embedded:
        yield finding
    else:
        yield Finding(check="broker", status="ok", detail=f"{settings.kafka.bootstrap_servers} answers")
    conflicts = [change for change in changes if change.action == "conflict"]
    if conflicts:
        yield Finding(check="topics", status="error", detail=str(conflicts[0]), remedy="callscribe topics plan")
    elif changes:
        detail = f"{len(changes)} of the declared topics are missing or differ; callscribe up makes them so"
        yield Finding(check="topics", status="hint", detail=detail, remedy="callscribe topics apply")
    else:
        yield Finding(check="topics", status="ok", detail="as declared in topics/topics.yaml")


def _embedded(settings: Settings) -> Finding:
    from pipeline.runtime.broker import EmbeddedBroker, ports, process

    status = EmbeddedBroker(settings).status()
    start = "callscribe broker start"
    if status.is_running:
        return Finding(
            check="broker", status="ok", detail=f"Apache Kafka {status.version} at {status.bootstrap_servers}"
        )
    if status.pids:
        return Finding(
            check="broker", status="error", detail=f"{len(status.pids)} of {status.nodes} nodes run", remedy=start
        )
    wanted = (
        [settings.broker.port]
        if settings.broker.port
        else [int(server.rpartition(":")[2]) for server in status.bootstrap_servers.split(",") if server]
    )
    for port in wanted:
        if not ports.is_free(port):
            detail = f"port {port} of the embedded broker is taken by {process.describe(ports.holder(port))}"
            return Finding(check="broker", status="error", detail=detail, remedy=f"{start} --port <another>")
    if not wanted:
        ports.free_port(taken=set())
    place = f"port {wanted[0]} is free" if wanted else "a free port will be taken"
    return Finding(
        check="broker",
        status="hint",
        detail=f"not running ({place}); callscribe up and callscribe demo start it",
        remedy=start,
    )


# -- models and store --------------------------------------------------------------------------------------------------


def check_models(settings: Settings) -> Iterator[Finding]:
    """The voice-activity model and the recogniser's."""
    from pipeline.vad.engine import model_path

    try:
        yield Finding(check="vad-model", status="ok", detail=str(model_path()))
    except NotReadyError as error:
        yield Finding(check="vad-model", status="error", detail=str(error), remedy="make setup")
    os.environ["HF_HUB_OFFLINE"] = (
        "1"  # the hub client reads it when it is imported: look into its cache, fetch nothing
    )
    from pipeline.asr.catalogue import check_names
    from pipeline.asr.loading import resolve_model

    check_names(settings.asr)
    for name in settings.asr.offered:
        try:
            files = resolve_model(name, cache=settings.asr.model_cache, offline=True)
        except CallscribeError as error:
            if is_not_fetched(error):
                detail = f"{name} is not in the model cache; it is fetched from the model hub at the first use"
                yield Finding(check="model", status="hint", detail=detail, remedy=f"callscribe models download {name}")
            else:
                setting = "MODEL" if name == settings.asr.model else "MODELS"
                remedy = f"CALLSCRIBE_ASR__{setting}=<name or folder> callscribe doctor"
                yield Finding(check="model", status="error", detail=str(error), remedy=remedy)
        else:
            yield Finding(check="model", status="ok", detail=f"{files.name}@{files.digest} in {files.folder}")


def check_device(settings: Settings) -> Iterator[Finding]:
    """Whether the recogniser's models can run where they are told to."""
    from pipeline.asr.engine import resolve_device

    device = resolve_device(settings.asr.device, settings.asr.compute_type)
    yield Finding(check="device", status="ok", detail=f"models run on the {'GPU' if device == 'cuda' else 'CPU'}")


def check_store(settings: Settings) -> Iterator[Finding]:
    """The store the sink writes and readers read."""
    from pipeline.sink.stores import open_store

    try:
        store = open_store(settings.store.url.get_secret_value(), settings.work_folder, create=False)
    except NotReadyError as error:
        if will_be_made(error):
            yield Finding(check="store", status="ok", detail=str(error))
        else:
            yield Finding(check="store", status="error", detail=str(error), remedy="callscribe config show --changed")
        return
    except CallscribeError as error:
        yield Finding(check="store", status="error", detail=str(error), remedy="callscribe config show --changed")
        return
    try:
        yield Finding(check="store", status="ok", detail=f"{store.uri} answers")
    finally:
        store.close()


CHECKS: tuple[tuple[str, Check], ...] = (
    ("python", check_python),
    ("packages", check_packages),
    ("machine", check_machine),
    ("java", check_java),
    ("jars", check_jars),
    ("broker", check_broker),
    ("model", check_models),
    ("device", check_device),
    ("store", check_store),
)


# -- facts -------------------------------------------------------------------------------------------------------------


def required_packages() -> tuple[str, ...]:
    """Return the names of the packages the installed callscribe needs without any extra."""
    requirements = importlib.metadata.requires("callscribe") or []
    names = (NAME_OF_REQUIREMENT.match(requirement) for requirement in requirements if "extra ==" not in requirement)
    return tuple(match[0] for match in names if match)


def installed(name: str) -> str | None:
    """Return the installed version of a package, None when it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def existing(path: Path) -> Path:
    """Return ``path`` or the nearest of its parents that is there."""
    return next(
        (candidate for candidate in (path, *path.parents) if os.path.exists(candidate)), Path("/")
    )  # never raises


def available_memory() -> int:
    """Return the bytes this process and its children may still use: the machine's, or what the control group leaves."""
    available: int = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return available
    return (
        available if limit == "max" else min(available, max(int(limit) - used + int(cached.get("inactive_file", 0)), 0))
    )


def will_be_made(error: NotReadyError) -> bool:
    """Return whether a store is only not there because no sink has started yet."""
    return any(text in str(error) for text in ("made when the sink first starts", "holds no callscribe tables"))


def is_not_fetched(error: CallscribeError) -> bool:
    """Return whether a model is only not here because nobody has fetched it yet."""
    from pipeline.asr.loading import NOT_FETCHED

    return NOT_FETCHED in str(error)


def _writable(folder: Path) -> Finding:
    """Try to write where the work folder is, or where it would be made."""
    nearest = existing(folder)
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(None, "is not a folder")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        detail = f"{nearest}: cannot be written ({error.strerror or type(error).__name__})"
        return Finding(check="work-folder", status="error", detail=detail, remedy=USE_ANOTHER_FOLDER)
    place = str(folder) if nearest == folder else f"{folder} can be made"
    return Finding(check="work-folder", status="ok", detail=place)


def _at_least(check: str, actual: int, error: int, hint: int, what: str, remedy: str | None = None) -> Finding:
    detail = f"{actual // MEGABYTE} MB {what}"
    if actual >= hint:
        return Finding(check=check, status="ok", detail=detail)
    status: Status = "error" if actual < error else "hint"
    return Finding(
        check=check,
        status=status,
        detail=f"{detail}; {hint // MEGABYTE} MB are comfortable, {error // MEGABYTE} MB the least",
        remedy=remedy,
    )
