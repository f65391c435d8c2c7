"""The locked requirements against pyproject.toml: ``python -m tests.locks`` lists every disagreement and exits 1 on one."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"

# Profile -> extras of pyproject.toml in it, and whether it also holds build.in. uv.txt holds uv alone.
PROFILES: Mapping[str, tuple[tuple[str, ...], bool]] = {
    "base": ((), True),
    "dev": (("dev",), False),
    "diarization": (("diarization",), True),
    "full": (("diarization", "dev"), False),
}
HOST = re.compile(r"(?i)(?:[a-z0-9-]+\.)+(?:org|com|net|io|dev)\b")
OPTION = re.compile(r"^\s*-(?!-hash=)")
PIN = re.compile(r"[^\s;]+==(?P<version>[^\s;]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One locked package; a package may be locked several times, for different environments."""

    name: str
    version: str
    hashes: int


def pins(text: str) -> tuple[Pin, ...]:
    """Return the pins of a requirements file. Raises ValueError naming a line that is not ``name==version``."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        content, *hashes = line.split("--hash=")
        content = content.strip()
        if not content or content.startswith("#"):
            continue
        try:
            requirement = Requirement(content)
        except InvalidRequirement:
            raise ValueError(f"not a requirement: {content}") from None
        match = PIN.match(content)
        if requirement.url is not None or match is None or len(requirement.specifier) != 1:
            raise ValueError(f"not pinned by ==: {content}")
        found.append(Pin(name=canonicalize_name(requirement.name), version=match["version"], hashes=len(hashes)))
    return tuple(found)


def declared(project: Mapping[str, Any], extras: Sequence[str]) -> Iterator[Requirement]:
    """Yield the direct dependencies of a project with some of its extras."""
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    return (Requirement(text) for text in texts)


def addresses(text: str) -> list[str]:
    """Return the lines that say where to download from, or that set an option other than a hash."""
    return [
        line.strip()
        for line in text.splitlines()
        if "://" in line or HOST.search(line) or OPTION.match(line) or " @ " in line
    ]


def disagreements(locked: Sequence[Pin], wanted: Iterator[Requirement]) -> list[str]:
    """Return what keeps ``locked`` from satisfying every requirement of ``wanted``."""
    versions: dict[str, set[str]] = {}
    for pin in locked:
        versions.setdefault(pin.name, set()).add(pin.version)
    found = []
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if name not in versions:
            found.append(f"{name} is not locked")
        found += [
            f"{name} is locked at {version}, wanted is {requirement.specifier}"
            for version in sorted(versions.get(name, ()))
            if not requirement.specifier.contains(version, prereleases=True)
        ]
    return found


def strangers(locked: Sequence[Pin], full: Sequence[Pin]) -> list[str]:
    """Return the pins that the full profile has at another version, where it has the package."""
    known = {pin.name for pin in full}
    same = {(pin.name, pin.version) for pin in full}
    return [f"{pin.name} {pin.version}" for pin in locked if pin.name in known and (pin.name, pin.version) not in same]


def problems() -> list[str]:
    """Return every disagreement between requirements/ and pyproject.toml, each beginning with the file's name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    build = [
        Requirement(line) for line in (FOLDER / "build.in").read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.txt"))}
    found = [f"{name}.txt is missing" for name in (*PROFILES, "uv") if name not in texts]
    locked = {}
    for name, text in texts.items():
        found += [f"{name}.txt names a place to download from: {line}" for line in addresses(text)]
        try:
            locked[name] = pins(text)
        except ValueError as error:
            found.append(f"{name}.txt: {error}")
            continue
        found += [f"{name}.txt: {pin.name} {pin.version} has no hash" for pin in locked[name] if not pin.hashes]
    for name, (extras, has_build) in PROFILES.items():
        wanted = [*declared(project, extras), *(build if has_build else ())]
        found += [f"{name}.txt: {line}" for line in disagreements(locked.get(name, ()), iter(wanted))]
    for name, content in locked.items():
        found += [
            f"{name}.txt: {line} is not the version of full.txt" for line in strangers(content, locked.get("full", ()))
        ]
    return found


def main() -> int:
    """Print every disagreement; return 1 when there is one."""
    found = problems()
    for line in found:
        print(f"{line}: run make lock", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
