from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chaos.schedule import KINDS, POISONED, QUIET_SECONDS, Fault, Kind, schedule

WORKERS = ("vad-1", "vad-2", "asr-1")
CALLS = ("a", "b")


def made(seed: int, seconds: float, kinds: list[Kind], count: int) -> tuple[Fault, ...]:
    return schedule(
        seed=seed, seconds=seconds, kinds=kinds, count=count, workers=WORKERS, calls=CALLS, session_seconds=10
    )


@given(
    seed=st.integers(),
    seconds=st.floats(30, 3600),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    count=st.integers(1, 100),
)
def test_every_kind_comes_in_time_and_the_same_seed_gives_the_same(
    seed: int, seconds: float, kinds: list[Kind], count: int
) -> None:
    faults = made(seed, seconds, kinds, count)
    assert faults == made(seed, seconds, kinds, count)
    assert len(faults) == max(count, len(kinds))
    assert {fault.kind for fault in faults} == set(kinds)
    assert [fault.at_seconds for fault in faults] == sorted(fault.at_seconds for fault in faults)
    assert all(QUIET_SECONDS <= fault.at_seconds <= seconds - QUIET_SECONDS + 0.01 for fault in faults)


def test_a_stopped_worker_stands_still_for_longer_than_its_session() -> None:
    assert all(fault.lasts_seconds > 10 for fault in made(1, 60, ["stop"], 20))


@pytest.mark.parametrize(
    ("kind", "targets"),
    [("kill", WORKERS), ("term", WORKERS), ("stop", WORKERS), ("poison", POISONED), ("feed", CALLS)],
)
def test_targets_are_what_there_is(kind: Kind, targets: tuple[str, ...]) -> None:
    assert {fault.target for fault in made(3, 600, [kind], 60)} == set(targets)


def test_a_fault_is_told_in_a_line() -> None:
    fault = Fault(at_seconds=1, kind="stop", target="asr-1", lasts_seconds=12)
    assert str(fault) == "stop asr-1 for 12.0 s"
    assert (
        str(Fault(at_seconds=1, kind="poison", target="call.audio", detail="no_avro a"))
        == "poison call.audio no_avro a"
    )
