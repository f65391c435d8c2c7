"""The records of a call: order, sequences, positions, control."""

from __future__ import annotations

import pytest

from pipeline.ingest.chunks import CallDescription, Control, Feed
from schemas.codec import Codec
from schemas.records import CallAudio, Channel, Dtmf, Hold, Settings, Transfer


def leg(channel: int, *, encoding: str = "mulaw", rate: int = 8000, offset: int = 0) -> Channel:
    return Channel(channel=channel, role="agent", sample_rate_hz=rate, encoding=encoding, offset_samples=offset)


def call(*legs: Channel, record_seconds: float = 0.2, next_control: int = 0) -> CallDescription:
    return CallDescription(
        call_id="c1",
        channels=legs or (leg(0), leg(1)),
        capture_start_ms=1_000_000,
        record_seconds=record_seconds,
        feed_epoch=3,
        next_control=next_control,
        tenant="acme",
        prompt="Names: Ada.",
        hot_words=("Ada",),
        attributes={"queue": "billing"},
    )


def shape(records: list[CallAudio]) -> list[tuple[str, int, int, int, int]]:
    return [(r.kind, r.channel, r.sequence, r.start_sample, len(r.audio.data) if r.audio else 0) for r in records]


def test_started_is_first_and_carries_what_is_known_of_the_call() -> None:
    (record,) = Feed(call()).start()
    assert (record.kind, record.channel, record.sequence, record.start_sample) == ("started", -1, 0, 0)
    assert (record.feed_epoch, record.sample_rate_hz, record.capture_time_ms) == (3, 8000, 1_000_000)
    assert record.started is not None
    assert [channel.channel for channel in record.started.channels] == [0, 1]
    assert (record.started.tenant, record.started.prompt, record.started.hot_words) == ("acme", "Names: Ada.", ("Ada",))
    assert record.started.attributes == {"queue": "billing"}


def test_channels_are_interleaved_in_time_order_on_the_grid() -> None:
    feed = Feed(call())
    feed.start()
    records = feed.push([bytes(4000), bytes(4000)])
    assert shape(records) == [
        ("audio", 0, 0, 0, 1600),
        ("audio", 1, 0, 0, 1600),
        ("audio", 0, 1, 1600, 1600),
        ("audio", 1, 1, 1600, 1600),
    ]
    assert [record.capture_time_ms for record in records] == [1_000_000, 1_000_000, 1_000_200, 1_000_200]
    assert shape(feed.end()) == [
        ("audio", 0, 2, 3200, 800),
        ("audio", 1, 2, 3200, 800),
        ("ended", -1, 1, 4000, 0),
    ]


def test_ended_tells_where_each_channel_ends() -> None:
    feed = Feed(call(leg(0), leg(1, encoding="pcm_s16le", rate=16000)))
    feed.start()
    records = feed.push([bytes(1600), bytes(6400)])
    assert [(r.channel, r.start_sample, r.sample_rate_hz) for r in records] == [(0, 0, 8000), (1, 0, 16000)]
    (ended,) = feed.end()
    assert ended.ended is not None
    assert ended.ended.end_samples == {"0": 1600, "1": 3200}
    assert (ended.start_sample, ended.sample_rate_hz) == (3200, 16000)


def test_control_stands_between_the_audio_before_and_after_it() -> None:
    feed = Feed(call(leg(0)))
    feed.start()
    records = feed.push([bytes(700)])
    for control in (
        Control(kind="hold", body=Hold(active=True)),
        Control(kind="dtmf", body=Dtmf(digits="1#")),
        Control(kind="transfer", body=Transfer(target="billing")),
        Control(kind="settings", body=Settings(language="de")),
        Control(kind="commit"),
        Control(kind="clear"),
    ):
        records += feed.control(control)
    records += feed.push([bytes(1000)])
    assert shape(records) == [
        ("audio", 0, 0, 0, 700),
        *[
            (kind, -1, n, 700, 0)
            for n, kind in enumerate(("hold", "dtmf", "transfer", "settings", "commit", "clear"), 1)
        ],
        ("audio", 0, 1, 700, 900),  # the grid is absolute
    ]
    assert (records[1].hold, records[2].dtmf) == (Hold(active=True), Dtmf(digits="1#"))
    assert (records[3].transfer, records[4].settings) == (Transfer(target="billing"), Settings(language="de"))


def test_while_paused_the_clock_runs_and_nothing_is_produced() -> None:
    feed = Feed(call(leg(0)))
    feed.start()
    records = feed.push([b"a" * 1000])
    records += feed.control(Control(kind="pause"))
    records += feed.push([b"SECRET" * 500])
    records += feed.control(Control(kind="resume"))
    records += feed.push([b"b" * 1000])
    records += feed.end()
    assert shape(records) == [
        ("audio", 0, 0, 0, 1000),
        ("pause", -1, 1, 1000, 0),
        ("resume", -1, 2, 4000, 0),
        ("audio", 0, 1, 4000, 800),
        ("audio", 0, 2, 4800, 200),
        ("ended", -1, 3, 5000, 0),
    ]
    assert not any(b"SECRET" in r.audio.data for r in records if r.audio)
    with pytest.raises(ValueError, match="the feed has ended"):
        feed.control(Control(kind="resume"))


def test_a_pause_needs_its_counterpart() -> None:
    feed = Feed(call())
    feed.start()
    with pytest.raises(ValueError, match="a resume where the call is not paused"):
        feed.control(Control(kind="resume"))
    feed.control(Control(kind="pause"))
    with pytest.raises(ValueError, match="a pause where the call is paused"):
        feed.control(Control(kind="pause"))


def test_a_leg_that_joins_late_begins_at_its_offset() -> None:
    feed = Feed(call(leg(0), leg(1, offset=2000)))
    feed.start()
    records = feed.push([bytes(3200), bytes(2000) + b"x" * 1200])
    assert shape(records) == [
        ("audio", 0, 0, 0, 1600),
        ("audio", 0, 1, 1600, 1600),
        ("audio", 1, 0, 2000, 1200),
    ]
    assert records[2].audio is not None
    assert records[2].audio.data == b"x" * 1200


def test_an_interrupted_call_goes_on_with_the_same_records() -> None:
    whole = Feed(call(leg(0)))
    expected = [*whole.start(), *whole.push([b"z" * 5000]), *whole.end()]

    first = Feed(call(leg(0)))
    produced = [*first.start(), *first.push([b"z" * 2000]), *first.interrupt("damaged")]
    assert shape(produced)[-1] == ("interrupted", -1, 1, 1600, 0)
    assert first.next_sequence == {"0": 1, "-1": 2}

    again = Feed(call(leg(0), next_control=first.next_sequence["-1"]))
    resumed = [*again.start(), *again.push([b"z" * 5000]), *again.end()]
    assert shape(resumed)[:2] == [("started", -1, 0, 0, 0), ("resumed", -1, 2, 0, 0)]
    assert [r for r in resumed if r.channel == 0] == [r for r in expected if r.channel == 0]
    assert resumed[-1].sequence == 3


def test_blocks_must_span_the_same_time() -> None:
    feed = Feed(call())
    with pytest.raises(ValueError, match="has not started"):
        feed.push([b"", b""])
    feed.start()
    with pytest.raises(ValueError, match="the same time"):
        feed.push([bytes(10), bytes(11)])
    with pytest.raises(ValueError, match="argument"):
        feed.push([bytes(10)])
    wide = Feed(call(leg(0), leg(1, encoding="pcm_s16le")))
    wide.start()
    with pytest.raises(ValueError, match="the same time"):
        wide.push([bytes(1), bytes(3)])


@pytest.mark.parametrize(
    "legs",
    [
        (),
        (leg(1),),
        (leg(0), leg(2)),
        (leg(0, encoding="alaw", rate=16000),),
        (leg(0, encoding="pcm_s16le", rate=44100),),
        (leg(0, encoding="opus"),),
    ],
)
def test_channels_that_the_topic_does_not_carry(legs: tuple[Channel, ...]) -> None:
    description = CallDescription(call_id="c1", channels=legs, capture_start_ms=0)
    with pytest.raises(ValueError, match="channel"):
        Feed(description)


def test_controls_are_checked() -> None:
    with pytest.raises(ValueError, match="is not a control kind of a feed"):
        Control(kind="ended")
    with pytest.raises(ValueError, match="a hold record needs a body: Hold"):
        Control(kind="hold")
    with pytest.raises(ValueError, match="a pause record needs no body"):
        Control(kind="pause", body=Hold(active=True))


def test_every_record_fits_its_schema() -> None:
    feed = Feed(call())
    codec = Codec()
    records = [*feed.start(), *feed.push([bytes(1700), bytes(1700)])]
    records += [*feed.control(Control(kind="hold", body=Hold(active=True))), *feed.end("hung up")]
    for record in records:
        assert codec.decode(codec.encode(record), CallAudio) == record
