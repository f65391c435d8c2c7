"""The verdict as people and programs read it: what was not done is not counted, what was not seen is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.chaos.recovery import Hit
from pipeline.chaos.report import document, lines
from pipeline.chaos.run import Outcome, Plan
from pipeline.chaos.schedule import KINDS, Fault
from pipeline.chaos.verdict import Counts

PLAN = Plan(calls=2, seconds=60.0, seed=7, kinds=KINDS, faults=2)


def outcome(**fields: Any) -> Outcome:
    kill = Hit(fault=Fault(at_seconds=1.0, kind="kill", target="asr-1"), at=1.0, down_at=1.0)
    away = Hit(
        fault=Fault(at_seconds=2.0, kind="feed", target="c1"), at=2.0, problem="call c1 is fed to its end already"
    )
    values = {"counts": {"c1": Counts(words=3), "c2": Counts(words=4)}, "recoveries": {"kill": [3.0, None, 5.0]}}
    return Outcome(**{"plan": PLAN, "folder": Path("/w"), "hits": [kill, away], **values, **fields})


def test_a_clean_run_says_so() -> None:
    found = document(outcome())
    assert (found["verdict"], found["words"]["words"], found["different_calls"]) == ("clean", 7, [])
    assert json.loads(json.dumps(found)) == found
    assert lines(outcome())[0].startswith("clean: 7 words of 2 calls, 1 faults (1 kill), seed 7")


def test_a_fault_that_was_not_carried_out_is_named_and_not_counted() -> None:
    faults = document(outcome())["faults"]
    assert (faults["total"], faults["by_kind"]) == (1, {"kill": 1})
    assert faults["not_carried_out"] == ["feed c1: call c1 is fed to its end already"]
    assert "not carried out: feed c1: call c1 is fed to its end already" in lines(outcome())


def test_a_recovery_that_was_never_seen_is_counted() -> None:
    assert document(outcome())["recovery_seconds"]["kill"] == {
        "p50": 5.0,
        "p95": 5.0,
        "max": 5.0,
        "count": 2,
        "never_seen": 1,
    }
    assert document(outcome(recoveries={"kill": [None]}))["recovery_seconds"]["kill"]["max"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"incomplete": ["c1"]},
        {"unaccounted": ["c1"]},
        {"poisoned": 1, "ignored": ["call.audio/0/7"]},
        {
            "hits": [
                Hit(fault=Fault(at_seconds=1.0, kind="kill", target="asr-1"), at=1.0, problem="asr-1 is not running")
            ]
        },
        *(
            {"counts": {"c1": Counts(words=3, **{name: 1})}}
            for name in ("lost", "twice", "changed", "invented", "gaps")
        ),
        {"counts": {"c1": Counts(words=3, otherwise=1)}},
    ],
    ids=str,
)
def test_whatever_is_wrong_fails_the_run(fields: dict[str, Any]) -> None:
    assert not outcome(**fields).is_clean
    assert document(outcome(**fields))["verdict"] == "failed"


def test_poison_that_no_stage_rejected_is_named() -> None:
    assert document(outcome(poisoned=2, ignored=["call.audio/0/7"]))["poison"] == {
        "written": 2,
        "ignored": ["call.audio/0/7"],
    }
