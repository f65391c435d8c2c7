"""What every store must do; run for SQLite as unit tests and for PostgreSQL as integration tests."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from pipeline.core.errors import NotReadyError, PoisonError
from pipeline.sink.coverage import coverage_of
from pipeline.sink.logic import plan
from pipeline.sink.stores import open_store, sql
from pipeline.sink.stores.base import Store
from pipeline.sink.transcript import Transcript
from tests.unit.sink.records_of_calls import (
    corrected_call,
    degraded,
    ended,
    gap,
    segment,
    speakers,
    started,
    whole_call,
)

Open = Callable[..., Store]


@contextmanager
def opening(url: str, work_folder: Path) -> Iterator[Open]:
    """Give what opens the store at ``url``; every connection is closed behind the block."""
    with ExitStack() as opened:

        def open_one(*, create: bool = True) -> Store:
            return opened.enter_context(closing(open_store(url, work_folder, create=create)))

        yield open_one


class StoreSuite:
    """Needs a fixture ``open_it``: each call gives a new connection to the test's own database."""

    def test_what_is_written_is_read(self, open_it: Open) -> None:
        writer, reader = open_it(), open_it(create=False)
        writer.write(plan(whole_call()))
        stored = reader.read("c1")
        assert stored is not None
        assert stored.call.state == "complete"
        assert stored.call.duration_seconds == 61.3
        assert stored.call.attributes == {"queue": "billing", "agent": "7"}
        assert stored.call.channels[1].role == "customer"
        assert {row.start_sample: row.text for row in stored.segments}[9600] == "Hi, my bill is strong."
        assert [row.kind for row in stored.events] == ["hold", "hold", "interrupted", "resumed", "ended", "dtmf"]
        assert Transcript.from_stored(stored) == Transcript.from_records(whole_call())

    def test_calls_as_a_whole_are_read_without_the_rest(self, open_it: Open) -> None:
        store = open_it()
        store.write(plan([*whole_call("c1"), *whole_call("c2")]))
        found = store.standing(["c2", "unheard", "c1"])
        assert [one.call.call_id for one in found] == ["c1", "c2"]
        assert [(len(one.degraded), one.segments, one.coverage) for one in found] == [(1, (), ())] * 2
        assert store.standing([]) == ()

    def test_replays_change_nothing(self, open_it: Open) -> None:
        store = open_it()
        store.write(plan(whole_call()))
        before = store.read("c1")
        store.write(plan(whole_call()))
        for record in whole_call():
            store.write(plan([record]))
        assert store.read("c1") == before

    def test_one_by_one_equals_one_batch(self, open_it: Open) -> None:
        store = open_it()
        for record in whole_call():
            store.write(plan([record]))
        stored = store.read("c1")
        assert stored is not None
        assert Transcript.from_stored(stored) == Transcript.from_records(whole_call())

    def test_the_highest_revision_stays(self, open_it: Open) -> None:
        store = open_it()
        for revision, text in ((1, "second"), (0, "first"), (2, "third"), (1, "second")):
            store.write(plan([segment(text=text, revision=revision)]))
        stored = store.read("c1")
        assert stored is not None
        assert [(row.revision, row.text) for row in stored.segments] == [(2, "third")]

    def test_a_segment_that_becomes_two_holds_each_word_once_whatever_the_order(self, open_it: Open) -> None:
        store = open_it()
        expected = Transcript.from_records(corrected_call())
        text = ["Thank you for calling.", "Hi.", "How can I help?"]
        assert [segment.text for segment in expected.segments] == text
        for seed in range(8):
            name = f"c{seed}"
            records = corrected_call(name)
            shuffled = records + records
            random.Random(seed).shuffle(shuffled)
            for start in range(0, len(shuffled), 3):
                store.write(plan(shuffled[start : start + 3]))
            stored = store.read(name)
            assert stored is not None
            found = Transcript.from_stored(stored)
            assert [(one.speaker, one.text, one.revision) for one in found.segments] == [
                ("speaker_1", text[0], 1),
                ("speaker_2", text[1], 1),
                ("speaker_1", text[2], 0),
            ]
            assert found.speakers == expected.speakers
            assert coverage_of(stored).problems == ()

    def test_of_the_speakers_of_a_channel_the_last_record_stays(self, open_it: Open) -> None:
        store = open_it()
        first, second = speakers(("a", None, None, 1.0), sequence=3), speakers(("b", "agent", "Zoë", 2.0), sequence=4)
        for record in (first, second, first, second, first):
            store.write(plan([record]))
        store.write(plan([speakers(("c", None, None, 3.0), channel=1)]))
        stored = store.read("c1")
        assert stored is not None
        assert [(row.channel, row.sequence, row.unknown_words, row.corrected_words) for row in stored.speakers] == [
            (0, 4, 4, 2),
            (1, 20, 4, 2),
        ]
        assert [row.speakers[0].name for row in stored.speakers] == ["Zoë", None]
        assert [one.speaker for one in Transcript.from_stored(stored).speakers] == ["b", "c"]

    def test_speakers_of_a_channel_that_the_call_has_not_are_refused(self, open_it: Open) -> None:
        store = open_it()
        with pytest.raises(PoisonError, match="channel 3"):
            store.write(plan([started(), speakers(("a", None, None, 1.0), channel=3)]))

    def test_a_store_without_speakers_is_brought_forward(self, open_it: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as older:
            older.setattr(sql, "MIGRATIONS", sql.MIGRATIONS[:2])
            open_it().write(plan(whole_call()))
        with pytest.raises(NotReadyError, match="version 2"):
            open_it(create=False)
        store = open_it()
        store.write(plan([speakers(("a", "agent", None, 1.0))]))
        stored = store.read("c1")
        assert stored is not None
        assert (len(stored.segments), len(stored.speakers)) == (3, 1)

    def test_the_same_revision_is_written_again(self, open_it: Open) -> None:
        store = open_it()
        store.write(plan([segment(text="one")]))
        store.write(plan([segment(text="two")]))
        stored = store.read("c1")
        assert stored is not None
        assert [row.text for row in stored.segments] == ["two"]

    def test_calls_are_apart(self, open_it: Open) -> None:
        store = open_it()
        store.write(plan([record for pair in zip(whole_call("a"), whole_call("b"), strict=True) for record in pair]))
        for name in ("a", "b"):
            stored = store.read(name)
            assert stored is not None
            assert {row.call_id for row in (*stored.segments, *stored.gaps, *stored.events)} == {name}

    def test_an_unknown_call_is_none(self, open_it: Open) -> None:
        assert open_it().read("nobody") is None

    def test_calls_are_listed_oldest_first_with_counts(self, open_it: Open) -> None:
        store = open_it()
        for index, name in enumerate(("late", "early", "middle")):
            start = {"late": 3000, "early": 1000, "middle": 2000}[name]
            store.write(plan([started(name, capture_time_ms=start), segment(name), gap(name)]))
            store.write(plan([degraded(name, offset=index), degraded(name, offset=index + 10)]))
        store.write(plan([ended("middle")]))
        found = store.calls()
        assert [one.call.call_id for one in found] == ["early", "middle", "late"]
        assert [(one.segment_count, one.gap_count) for one in found] == [(1, 1)] * 3
        assert found[0].degraded == ("asr: PoisonError",)
        assert [one.call.call_id for one in store.calls(state="complete")] == ["middle"]
        assert [one.call.call_id for one in store.calls(limit=2)] == ["middle", "late"]

    def test_text_of_any_language_survives(self, open_it: Open) -> None:
        store = open_it()
        text = "naïve 你好 🙂 \"quoted\" 'single' %s ? \\ \x00 end"
        store.write(plan([segment(text=text)]))
        stored = store.read("c1")
        assert stored is not None
        assert stored.segments[0].text == text.replace("\x00", "\ufffd")
        assert stored.segments[0].words[2].text == "🙂"

    def test_a_batch_is_all_or_nothing(self, open_it: Open) -> None:
        store = open_it()
        too_large = segment("c2", start=2**63)  # no 64-bit number: no store can take it
        with pytest.raises(PoisonError) as caught:
            store.write(plan([started("c1"), segment("c1", text="secret words"), too_large]))
        assert "secret" not in str(caught.value)
        assert store.read("c1") is None
        store.write(plan([started("c1")]))
        assert store.read("c1") is not None

    def test_two_writers_and_a_reader_at_once(self, open_it: Open) -> None:
        stores = [open_it(), open_it()]
        failures: list[BaseException] = []

        def write(store: Store) -> None:
            try:
                for _ in range(5):
                    store.write(plan([*whole_call("a"), *whole_call("b")]))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        reader = open_it(create=False)
        while any(thread.is_alive() for thread in threads):
            for summary in reader.calls():
                assert summary.segment_count == 3
        assert not failures
        assert len(reader.calls()) == 2

    def test_a_closed_store_opens_again_when_used(self, open_it: Open) -> None:
        store = open_it()
        store.write(plan([started()]))
        store.close()
        assert store.read("c1") is not None

    def test_a_newer_store_is_refused(self, open_it: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        open_it()
        monkeypatch.setattr(sql, "MIGRATIONS", ())
        with pytest.raises(NotReadyError, match="newer callscribe"):
            open_it()

    def test_an_older_store_is_brought_forward_by_a_writer_only(
        self, open_it: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = open_it()
        writer.write(plan(whole_call()))
        later = (*sql.MIGRATIONS, ("ALTER TABLE calls ADD COLUMN later {json}",))
        monkeypatch.setattr(sql, "MIGRATIONS", later)
        with pytest.raises(NotReadyError, match=f"version {len(later) - 1}"):
            open_it(create=False)
        assert open_it().read("c1") is not None
        assert open_it(create=False).read("c1") is not None
