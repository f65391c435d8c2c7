"""The schedule of faults: the same for a seed, every kind in it, all of it within the run."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chaos.schedule import KINDS, POISONED, POISONS, QUIET_SECONDS, WORKER_KINDS, Fault, Kind, schedule
from pipeline.stages import STAGES

WORKERS = tuple(f"{stage}-{number}" for stage in STAGES for number in (1, 2))
CALLS = ("a", "b", "c")
SESSION = 10.0


def make(
    *, seed: int = 1, seconds: float = 600.0, kinds: tuple[Kind, ...] = KINDS, count: int = 45
) -> tuple[Fault, ...]:
    return schedule(
        seed=seed, seconds=seconds, kinds=kinds, count=count, workers=WORKERS, calls=CALLS, session_seconds=SESSION
    )


SEEDS = st.integers(0, 2**32)
SOME = st.lists(st.sampled_from(KINDS), min_size=1, unique=True).map(tuple)


@given(seed=SEEDS, kinds=SOME, count=st.integers(1, 90), seconds=st.floats(30.0, 3600.0))
def test_any_seed_gives_so_many_faults_of_every_kind_within_the_run(
    seed: int, kinds: tuple[Kind, ...], count: int, seconds: float
) -> None:
    faults = make(seed=seed, seconds=seconds, kinds=kinds, count=count)
    assert len(faults) == max(count, len(kinds))
    assert {fault.kind for fault in faults} == set(kinds)
    often = Counter(fault.kind for fault in faults)
    assert max(often.values()) - min(often.values()) <= 1
    moments = [fault.at_seconds for fault in faults]
    assert moments == sorted(moments)
    assert all(QUIET_SECONDS - 0.01 <= moment <= seconds - QUIET_SECONDS + 0.01 for moment in moments)


@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_faults(seed: int) -> None:
    assert make(seed=seed) == make(seed=seed)


def test_another_seed_gives_other_faults() -> None:
    assert make(seed=1) != make(seed=2)


@given(seed=SEEDS)
def test_every_fault_names_what_it_hits(seed: int) -> None:
    for fault in make(seed=seed):
        if fault.kind in WORKER_KINDS:
            assert fault.target in WORKERS
        elif fault.kind == "poison":
            what, call_id = fault.detail.split()
            assert (fault.target in POISONED, what in POISONS, call_id in CALLS) == (True, True, True)
        elif fault.kind == "feed":
            assert fault.target in CALLS


@given(seed=SEEDS)
def test_a_stopped_worker_stands_still_for_longer_than_its_session(seed: int) -> None:
    faults = make(seed=seed, kinds=("stop",))
    assert all(fault.lasts_seconds > SESSION for fault in faults)


@pytest.mark.parametrize(
    ("kind", "targets"),
    [("kill", WORKERS), ("term", WORKERS), ("stop", WORKERS), ("poison", POISONED), ("feed", CALLS)],
)
def test_over_time_a_kind_hits_everything_it_can(kind: Kind, targets: tuple[str, ...]) -> None:
    assert {fault.target for fault in make(seed=3, kinds=(kind,), count=100)} == set(targets)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(at_seconds=1.0, kind="kill", target="asr-1"), "kill asr-1"),
        (Fault(at_seconds=1.0, kind="stop", target="asr-1", lasts_seconds=12.34), "stop asr-1 for 12.3 s"),
        (Fault(at_seconds=1.0, kind="poison", target="call.audio", detail="no_avro a"), "poison call.audio no_avro a"),
    ],
)
def test_a_fault_says_what_it_does_to_whom(fault: Fault, text: str) -> None:
    assert str(fault) == text
