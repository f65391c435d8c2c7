"""Recovery: counted from the fault to the next step of what it hit, in the partitions that it hit, and not from what went before."""

from __future__ import annotations

import pytest

from pipeline.chaos.recovery import ON_ITS_WAY_SECONDS, Hit, Place, by_kind, recoveries, stages_hit
from pipeline.chaos.schedule import Fault, Kind
from pipeline.stages import STAGES


def hit(kind: Kind = "kill", target: str = "asr-1", **fields: object) -> Hit:
    fault = Fault(at_seconds=0.0, kind=kind, target=target)
    return Hit(**{"fault": fault, "at": 100.0, "down_at": 100.0, "partitions": frozenset({0}), **fields})  # type: ignore[arg-type]


def test_a_recovery_lasts_from_the_fault_to_the_next_step_of_the_stage() -> None:
    assert recoveries(hit(), {("asr", 0): [99.0, 105.5, 106.0]}) == [5.5]


def test_steps_in_other_partitions_and_of_other_stages_are_no_recovery() -> None:
    moves: dict[Place, list[float]] = {("asr", 1): [102.0], ("vad", 0): [102.0]}
    assert recoveries(hit(), moves) == [None]


def test_what_was_on_its_way_before_the_worker_was_down_is_no_recovery() -> None:
    late = 100.0 + ON_ITS_WAY_SECONDS / 2
    assert recoveries(hit(), {("asr", 0): [late, 107.0]}) == [7.0]


def test_a_worker_that_ends_in_order_is_down_when_its_process_is_gone() -> None:
    asked = hit("term", down_at=104.0)
    assert recoveries(asked, {("asr", 0): [102.0, 103.9, 110.0]}) == [10.0]


def test_every_partition_counts_for_itself() -> None:
    moves: dict[Place, list[float]] = {("asr", 0): [103.0], ("asr", 2): [108.0]}
    assert recoveries(hit(partitions=frozenset({0, 1, 2})), moves) == [3.0, None, 8.0]


@pytest.mark.parametrize("fields", [{"down_at": None}, {"problem": "asr-1 is not running"}, {"partitions": ()}])
def test_a_fault_that_hit_nothing_tells_nothing(fields: dict[str, object]) -> None:
    assert recoveries(hit(**fields), {("asr", 0): [105.0]}) == []


@pytest.mark.parametrize(
    ("kind", "target", "stages"),
    [
        ("kill", "asr-2", ("asr",)),
        ("term", "vad-1", ("vad",)),
        ("stop", "sink-1", ("sink",)),
        ("broker", "killed", STAGES),
        ("store", "locked", ("sink",)),
        ("poison", "call.audio", ()),
        ("feed", "c1", ()),
    ],
)
def test_a_fault_keeps_its_stages_from_working(kind: Kind, target: str, stages: tuple[str, ...]) -> None:
    assert stages_hit(Fault(at_seconds=0.0, kind=kind, target=target)) == stages


def test_recoveries_are_given_by_kind() -> None:
    hits = [hit(), hit(at=200.0, down_at=200.0), hit("poison", "call.audio")]
    assert by_kind(hits, {("asr", 0): [104.0, 203.0]}) == {"kill": [4.0, 3.0]}
