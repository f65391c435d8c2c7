from __future__ import annotations

import json
import os

import pytest
from rich.console import Console

from pipeline.bench.live.latency import Percentiles, SpeakerLatency
from pipeline.bench.live.report import closing_lines, headline, tables
from pipeline.bench.live.usage import BENCH, describe_machine, take_sample, usage_between
from tests.unit.bench.live.figures import a_mixed_run, a_run, sample


def shown(*things: object) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        for thing in things:
            console.print(thing)
    return capture.get()


def test_a_run_passes_when_it_counts_and_is_in_time() -> None:
    assert a_run(p95=2.0).passes(2.0)
    assert not a_run(p95=2.001).passes(2.0)
    assert not a_run(p95=1.0, problems=("one transcript differs",)).passes(2.0)
    assert not a_run(figures=None).passes(2.0)


def test_the_document_holds_what_was_measured() -> None:
    document = json.loads(json.dumps(a_run().to_document()))
    assert document["counts"] is True
    assert document["word_commit_latency_seconds"]["true_ends"] == {
        "count": 20,
        "p50": 1.5,
        "p95": 1.5,
        "p99": 2.5,
        "max": 2.5,
    }
    assert document["lag"]["vad"] == {"samples": 3, "p50_seconds": 0.5, "max_seconds": 4.0, "max_records": 9}
    assert document["topics"]["call.audio"] == {"records_per_second": 20.0, "bytes_per_second": 800.0}
    assert document["machine"] == {
        "window_seconds": 10.0,
        "own_cores": 0.45,
        "busy_cores": 1.2,
        "foreign_cores": 0.75,
        "stolen_cores": 0.01,
    }
    broker = next(process for process in document["processes"] if process["name"] == "broker")
    assert broker["cores"] == 0.4
    assert broker["rss_bytes"] == {"start": 20_000_000, "end": 30_000_000}
    assert broker["uss_bytes"] == {"start": 15_000_000, "end": 25_000_000}


def test_a_run_that_was_given_up_has_no_figures() -> None:
    run = a_run(figures=None, problems=("given up: asr is 61 s behind",))
    assert run.to_document()["problems"] == ["given up: asr is 61 s behind"]
    assert "word_commit_latency_seconds" not in run.to_document()
    assert list(tables(run)) == closing_lines(run) == []
    assert headline(run, 2.0) == "20 two-channel calls (full): given up: asr is 61 s behind"


def test_headlines_say_whether_a_run_passes() -> None:
    start = "20 two-channel calls (full): commit latency p50 1.50, p95 1.50, 0.45 cores; "
    assert headline(a_run(), 2.0) == start + "p95 <= 2 s"
    assert headline(a_run(), 1.0) == start + "p95 not <= 1 s"
    assert headline(a_run(problems=("x",)), 2.0) == start + "does not count: x"


def test_tables_show_every_process_stage_and_topic() -> None:
    run = a_run(different=("live-0001",))
    text = shown(*tables(run), *closing_lines(run))
    for part in ("broker", "bench", "vad", "call.audio", "demo@1 alignatt", "1.2 %", "19 of 20 equal", "0.75 foreign"):
        assert part in text


def test_a_mixed_run_passes_when_words_and_speakers_are_in_time() -> None:
    assert a_mixed_run(speakers_p95=3.0).passes(2.0)
    assert not a_mixed_run(speakers_p95=3.001).passes(2.0)
    assert not a_mixed_run(p95=2.001).passes(2.0)
    assert not a_mixed_run(speakers=SpeakerLatency(after_commit=Percentiles.of([]), never=5)).passes(2.0)
    assert a_run().has_prompt_speakers is None


def test_the_document_of_a_mixed_run_tells_of_speakers() -> None:
    document = json.loads(json.dumps(a_mixed_run().to_document()))
    assert document["load"] == "mixed"
    assert document["speakers"] == {
        "known_after_commit_seconds": {"count": 20, "p50": 0.0, "p95": 2.5, "p99": 3.5, "max": 3.5},
        "p95_target_seconds": 3.0,
        "words_never_known": 1,
        "named_share": 0.975,
    }
    assert "speakers" not in a_mixed_run(figures=None).to_document()
    for load in ("two_channel", "mono"):
        document = a_run(load=load).to_document()
        assert document["load"] == load
        assert "speakers" not in document


def test_the_report_of_a_mixed_run_tells_of_speakers_beside_their_target() -> None:
    (line,) = (line for line in closing_lines(a_mixed_run()) if line.startswith("speaker"))
    assert line == (
        "speaker known after its word was committed: p50 0.00, p95 2.50, max 3.50 s (target p95 <= 3 s: met), "
        "of 20 of 21 words; words with a speaker 97.5 %"
    )
    late = closing_lines(a_mixed_run(speakers_p95=3.5, named_share=None))
    assert any("(target p95 <= 3 s: not met)" in line and line.endswith("with a speaker -") for line in late)
    assert not any("speaker known" in line for line in closing_lines(a_run()))


def test_headlines_of_mixed_runs_say_which_limit_is_kept() -> None:
    start = "20 mixed calls (full): commit latency p50 1.50, p95 1.50, speakers known after that p95 {}, 0.45 cores; "
    assert headline(a_mixed_run(), 2.0) == start.format("2.50") + "p95 <= 2 s, of speakers <= 3 s"
    late = a_mixed_run(speakers_p95=4.0)
    assert headline(late, 1.0) == start.format("4.00") + "p95 not <= 1 s, of speakers not <= 3 s"
    assert headline(a_mixed_run(problems=("x",)), 2.0) == start.format("2.50") + "does not count: x"


def test_a_process_that_was_replaced_counts_from_its_start() -> None:
    usage = usage_between(sample(0, busy=0, asr=50), sample(10, busy=5, pid=8, asr=3))
    assert usage.processes[0].cores == pytest.approx(0.3)


def test_a_sample_of_this_process() -> None:
    first = take_sample({"gone": 2**22 + 1})
    total = sum(index * index for index in range(200_000))
    last = take_sample({})
    assert total
    assert set(first.processes) == {BENCH}
    mine = last.processes[BENCH]
    assert mine.pid == os.getpid()
    assert mine.cpu_seconds > first.processes[BENCH].cpu_seconds
    assert 0 < mine.uss_bytes <= mine.rss_bytes
    assert last.machine_busy_seconds >= first.machine_busy_seconds


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 2**20
    assert all(machine.values())
