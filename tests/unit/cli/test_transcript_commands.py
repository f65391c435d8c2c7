from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli import transcript as transcript_commands
from pipeline.core.errors import FailedError, NotReadyError, UsageError
from pipeline.sink.logic import plan
from pipeline.sink.stores import open_store
from pipeline.sink.stores.base import Store
from pipeline.sink.transcript import Transcript
from tests.unit.sink.records_of_calls import corrected_call, degraded, ended, gap, segment, started, whole_call

Invoke = Callable[..., Any]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command on the store of ``tmp_path``; errors are raised, as `pipeline.cli.main.run` sees them."""
    monkeypatch.setenv("CALLSCRIBE_RUNTIME__WORK_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    transcript_commands.register(app)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store("", tmp_path)
    yield made
    made.close()


def test_calls_are_listed(invoke: Invoke, store: Store) -> None:
    store.write(plan([*whole_call("done"), started("talking", capture_time_ms=1_700_000_100_000), segment("talking")]))
    lines = [line.split("\t") for line in invoke("calls").stdout.splitlines()]
    assert lines == [
        ["done", "complete", "2023-11-14T22:13:20+00:00", "61.3 s", "3", "1", "asr: PoisonError"],
        ["talking", "live", "2023-11-14T22:15:00+00:00", "-", "1", "0", "-"],
    ]
    assert invoke("calls", "--state", "live").stdout.startswith("talking\t")


def test_calls_as_json(invoke: Invoke, store: Store) -> None:
    store.write(plan([*whole_call(), gap(start=100, end=200), degraded(offset=8)]))
    assert json.loads(invoke("calls", "--json").stdout) == [
        {
            "call_id": "c1",
            "state": "complete",
            "started_at": "2023-11-14T22:13:20+00:00",
            "duration_seconds": 61.3,
            "tenant": "acme",
            "attributes": {"queue": "billing", "agent": "7"},
            "channels": [
                {"channel": 0, "role": "agent", "language": "en"},
                {"channel": 1, "role": "customer", "language": "en"},
            ],
            "segment_count": 3,
            "gap_count": 2,
            "degraded": ["asr: PoisonError"],
        }
    ]


def test_no_calls_is_an_empty_document_and_a_note(invoke: Invoke, store: Store) -> None:
    assert json.loads(invoke("calls", "--json").stdout) == []
    result = invoke("calls")
    assert result.stdout == ""
    assert "no calls" in result.stderr


@pytest.mark.parametrize("name", ["txt", "json", "srt", "vtt", "rttm", "csv"])
def test_a_transcript_in_every_format(invoke: Invoke, store: Store, name: str, tmp_path: Path) -> None:
    from pipeline.sink.exports import FORMATS

    store.write(plan(whole_call()))
    expected = FORMATS[name](Transcript.from_records(whole_call()))
    assert invoke("transcript", "c1", "--format", name).stdout_bytes.decode() == expected
    result = invoke("transcript", "c1", "--format", name, "--output", str(tmp_path / "out"))
    assert result.stdout == ""
    assert (tmp_path / "out").read_bytes().decode() == expected


def test_an_unknown_call_is_a_clear_failure(invoke: Invoke, store: Store) -> None:
    with pytest.raises(FailedError, match=r"call nobody is not in the store sqlite:///.*callscribe calls"):
        invoke("transcript", "nobody")
    with pytest.raises(FailedError, match="call nobody is not in the store"):
        invoke("transcript", "nobody", "--wait", "0")


def test_without_a_store_the_command_says_how_one_is_made(invoke: Invoke) -> None:
    for arguments in (("calls",), ("transcript", "c1")):
        with pytest.raises(NotReadyError, match="callscribe up"):
            invoke(*arguments)
    with pytest.raises(FailedError, match="no such file"):
        invoke("transcript", "c1", "--wait", "0.3")


def test_a_file_that_cannot_be_written_is_named(invoke: Invoke, store: Store, tmp_path: Path) -> None:
    store.write(plan(whole_call()))
    with pytest.raises(FailedError, match="missing/out: cannot be written"):
        invoke("transcript", "c1", "--output", str(tmp_path / "missing" / "out"))


def test_wait_returns_when_the_call_is_complete(invoke: Invoke, tmp_path: Path) -> None:
    """The store is made, the call starts and ends while the command waits."""

    def happen() -> None:
        made = open_store("", tmp_path)
        for record in whole_call():
            made.write(plan([record]))
        made.close()

    later = threading.Timer(0.3, happen)
    later.start()
    result = invoke("transcript", "c1", "--wait", "20", "--format", "json")
    later.join()
    assert json.loads(result.stdout) == Transcript.from_records(whole_call()).to_document()


def test_wait_prints_what_there_is_and_fails_at_the_deadline(
    invoke: Invoke, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write(plan([started(), segment(text="Hello.")]))
    app = typer.Typer()
    transcript_commands.register(app)
    result = CliRunner().invoke(app, ["transcript", "c1", "--wait", "0.1"])
    assert isinstance(result.exception, FailedError)
    assert "call c1 is live, not complete after 0.1 s" in str(result.exception)
    assert result.stdout == "[00:00.4] agent: Hello.\n"


def test_follow_prints_each_segment_once_until_the_end(invoke: Invoke, store: Store) -> None:
    store.write(plan([started(), segment(text="One.")]))

    def happen() -> None:
        store.write(plan([segment(text="Won.", revision=1), segment(channel=1, start=9600, text="Two.")]))
        store.write(plan([ended()]))

    later = threading.Timer(0.6, happen)
    later.start()
    result = invoke("transcript", "c1", "--follow")
    later.join()
    assert result.stdout.splitlines() == [
        "[00:00.4] agent: One.",
        "[00:00.4] agent (corrected): Won.",
        "[00:01.2] customer: Two.",
    ]
    lines = invoke("transcript", "c1", "--follow", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["Won.", "Two."]


def test_follow_says_what_was_corrected_and_what_was_cut_out(invoke: Invoke, store: Store) -> None:
    records = corrected_call()
    store.write(plan(records[:5]))
    later = threading.Timer(0.6, lambda: store.write(plan(records[5:])))
    later.start()
    result = invoke("transcript", "c1", "--follow")
    later.join()
    assert result.stdout.splitlines() == [
        "[00:00.0] unknown: Thank you for calling. Hi.",
        "[00:02.0] speaker_1: How can I help?",
        "[00:00.0] Ann (corrected): Thank you for calling.",
        "[00:01.0] customer (corrected): Hi.",
    ]
    again = invoke("transcript", "c1", "--follow").stdout
    assert again == invoke("transcript", "c1").stdout  # whoever comes late reads what holds
    assert invoke("transcript", "c1", "--coverage").stdout.endswith("adds up\n")


def test_follow_gives_up_at_the_deadline(invoke: Invoke, store: Store) -> None:
    with pytest.raises(FailedError, match="not in the store"):
        invoke("transcript", "c1", "--follow", "--wait", "0.1")
    store.write(plan([started()]))
    with pytest.raises(FailedError, match="c1 is live"):
        invoke("transcript", "c1", "--follow", "--wait", "0.1")


@pytest.mark.parametrize("arguments", [("--format", "srt"), ("--output", "file")])
def test_follow_goes_with_text_and_json_on_stdout_only(
    invoke: Invoke, store: Store, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="--follow"):
        invoke("transcript", "c1", "--follow", *arguments)


@pytest.mark.parametrize("command", ["calls", "transcript"])
def test_help_has_an_example(invoke: Invoke, command: str) -> None:
    assert f"Example: callscribe {command}" in " ".join(invoke(command, "--help").stdout.split())


def test_the_account_of_a_call(invoke: Invoke, store: Store) -> None:
    store.write(plan(whole_call()))
    told = invoke("transcript", "c1", "--coverage")
    assert told.exit_code == 0
    assert told.stdout.endswith("adds up\n")
    assert "  refused           20800       2.600 s\n" in told.stdout
    document = json.loads(invoke("transcript", "c1", "--coverage", "--format", "json").stdout)
    assert document["adds_up"] is True
    agent, customer = document["channels"]
    assert (agent["accepted_samples"], agent["covered_samples"]) == (490_400, 490_400)
    assert customer["spans"][2] == {
        "kind": "refused",
        "reason": "repetition",
        "start_sample": 19_200,
        "end_sample": 40_000,
    }


def test_an_account_that_does_not_add_up_is_a_failure(invoke: Invoke, store: Store) -> None:
    store.write(plan([record for record in whole_call() if record.coverage is None or record.start_sample]))
    with pytest.raises(FailedError, match="does not add up: channel 0: samples 0 to 72000 are in no span"):
        invoke("transcript", "c1", "--coverage")


@pytest.mark.parametrize("more", [("--follow",), ("--format", "srt")])
def test_an_account_has_two_formats(invoke: Invoke, store: Store, more: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--coverage"):
        invoke("transcript", "c1", "--coverage", *more)
