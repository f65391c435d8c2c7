"""The install profiles: pinned, hashed, in line with pyproject.toml and with each other, and free of addresses."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from tests import locks
from tests.locks import Pin

GOOD = """\
one==1.0 ; python_full_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
one==1.1 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
# via two
"""


def pin(name: str, version: str, hashes: int = 1) -> Pin:
    return Pin(name=name, version=version, hashes=hashes)


def test_the_locks_are_in_line() -> None:
    assert locks.problems() == []


@pytest.mark.parametrize("profile", ["base", "dev", "diarization", "full", "uv"])
def test_every_profile_is_there_pinned_and_hashed(profile: str) -> None:
    found = locks.pins((locks.FOLDER / f"{profile}.txt").read_text(encoding="utf-8"))
    assert found
    assert [one for one in found if not one.hashes] == []


def test_the_base_profile_is_without_torch() -> None:
    names = {one.name for one in locks.pins((locks.FOLDER / "base.txt").read_text(encoding="utf-8"))}
    assert {"torch", "diart", "pyannote-audio", "pytest"}.isdisjoint(names)
    assert {"faster-whisper", "confluent-kafka", "faust-streaming"} <= names


def test_pins_are_read_with_markers_and_hashes() -> None:
    assert locks.pins(GOOD) == (pin("one", "1.0", 2), pin("one", "1.1", 1))


@pytest.mark.parametrize("line", ["one", "one>=1.0", "one==1.0,<2", "one @ file:///one.whl", "=1"])
def test_what_is_not_pinned_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not"):
        locks.pins(line)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url somewhere",
        "-f folder",
        "one @ file:///one.whl",
        "one==1 # from https://x/simple",
        "# packages.example.org",
    ],
)
def test_addresses_are_found(line: str) -> None:
    assert locks.addresses(GOOD + line) == [line]


def test_hashes_and_dotted_names_are_no_addresses() -> None:
    assert locks.addresses(GOOD + "pyannote-core==5.0 \\\n    --hash=sha256:dd\nruamel.yaml==0.18") == []


def test_dependency_that_is_missing_or_too_old_is_named() -> None:
    wanted = [Requirement("One>=1.1"), Requirement("two"), Requirement("three~=2.1")]
    assert locks.disagreements([pin("one", "1.0"), pin("one", "1.1"), pin("three", "2.9")], iter(wanted)) == [
        "one is locked at 1.0, wanted is >=1.1",
        "two is not locked",
    ]


def test_profiles_that_disagree_are_named() -> None:
    profile = [pin("one", "1.0"), pin("two", "2.0"), pin("extra", "3.0")]
    assert locks.strangers(profile, [pin("one", "1.0"), pin("two", "2.1")]) == ["two 2.0"]
