from __future__ import annotations

import pytest

import topics
from schemas import REPOSITORY_IDS, schema_text
from topics import TopicsError, provision

STAGES = {"vad", "asr", "diarize", "assemble"}
PARTIES = STAGES | {"ingest", "gateway", "sink", "cli", "subscribers"}


def test_names_on_the_broker() -> None:
    assert topics.topic("call.audio").full_name("p") == "p.call.audio.v1"
    assert topics.changelog_of("asr").full_name("p") == "p.asr-state-changelog"
    names = [topic.full_name("p") for topic in topics.load()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("topic", topics.load(), ids=lambda topic: topic.name)
def test_every_topic_can_be_provisioned_and_decoded(topic: topics.Topic) -> None:
    assert topic.schema in REPOSITORY_IDS
    assert schema_text(topic.schema)
    assert topic.config["cleanup.policy"] in ("delete", "compact")
    assert (topic.retention_ms == -1) == (topic.cleanup == "compact")
    assert set(topic.producers) <= PARTIES
    assert set(topic.consumers) <= PARTIES
    assert topic.producers
    assert topic.consumers


def test_every_stage_has_a_compacted_changelog_only_it_uses() -> None:
    for stage in STAGES:
        changelog = topics.changelog_of(stage)
        assert (changelog.cleanup, changelog.producers, changelog.consumers) == ("compact", (stage,), (stage,))


@pytest.mark.parametrize(("text", "expected"), [("90s", 90_000), ("5m", 300_000), ("24h", 86_400_000), (None, -1)])
def test_durations(text: str | None, expected: int) -> None:
    assert topics.parse_duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1w", "1.5h"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(TopicsError, match="a duration is"):
        topics.parse_duration_ms(text)


def test_an_undeclared_topic_is_named() -> None:
    with pytest.raises(TopicsError, match=r"no topic 'call\.video'"):
        topics.topic("call.video")


def test_a_change_reads_as_one_line() -> None:
    change = provision.Change(topic="p.call.audio.v1", action="alter", details=("retention.ms 1 -> 2", "a b -> c"))
    assert str(change) == "alter p.call.audio.v1: retention.ms 1 -> 2, a b -> c"


def test_a_client_that_cannot_be_made_is_a_broker_that_cannot_be_used() -> None:
    config = {"bootstrap.servers": "127.0.0.1:1", "security.protocol": "SSL", "ssl.ca.location": "/nowhere.pem"}
    with pytest.raises(provision.BrokerUnreachableError, match=r"cannot be made .*ssl\.ca\.location"):
        provision.plan(config, "p", 1, -1)
