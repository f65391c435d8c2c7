"""topics.yaml against the stages: what a stage reads and writes is declared, and co-partitioned."""

from __future__ import annotations

import pytest

import topics
from pipeline.stages import STREAM_STAGES, spec


def test_all_topics_are_of_one_partition_group() -> None:
    assert {topic.group for topic in topics.load()} == {"call"}


@pytest.mark.parametrize("stage", STREAM_STAGES)
def test_a_stage_reads_and_writes_what_is_declared(stage: str) -> None:
    made = spec(stage)
    source, target = topics.topic(made.input), topics.topic(made.output)
    assert stage in source.consumers
    assert stage in target.producers
    assert source.schema == made.reads.__name__
    assert target.schema == made.writes.__name__
    assert set(made.writers) <= set(source.producers)
    assert topics.changelog_of(stage).schema == "LaneState"
    assert stage in topics.topic("dead-letters").producers


def test_whoever_reads_a_topic_keyed_by_call_finds_the_whole_call() -> None:
    for topic in topics.load():
        assert topic.key == ("call_id" if topic.changelog_of is None else "call_id/channel")


def test_every_topic_of_the_flow_has_a_stage_behind_it() -> None:
    written = {made.output for made in map(spec, STREAM_STAGES)}
    read = {made.input for made in map(spec, STREAM_STAGES)}
    assert read - written == {"call.audio"}
    assert written - read == {"call.segments"}
