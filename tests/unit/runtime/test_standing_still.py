"""Clocks of a worker: its own pulse, how long calls are silent, how old records are."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

import topics
from pipeline.runtime.idle import Silence
from pipeline.runtime.pulse import BEATS, Pulse, clock
from pipeline.runtime.retention import AGAIN_SECONDS, RetentionWatch


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("stands", "is_late"), [(4.9, False), (5.1, True), (3600.0, True)])
def test_a_process_that_stood_still_hears_of_it_before_it_writes(stands: float, is_late: bool) -> None:
    now, late = Clock(), list[float]()
    pulse = Pulse(5.0, late.append, clock=now)
    pulse.check()  # not started: nothing is known

    async def work() -> None:
        pulse.start()
        now.now += stands
        pulse.check()

    asyncio.run(work())
    assert [round(seconds, 3) for seconds in late] == ([stands] if is_late else [])


def test_the_first_beat_hears_of_it_too() -> None:
    now, late = Clock(), list[float]()

    async def work() -> None:
        pulse = Pulse(0.02, late.append, clock=now)
        pulse.start()
        await asyncio.sleep(0)
        now.now += 9.0
        while not late:  # noqa: ASYNC110 - the pulse has no event
            await asyncio.sleep(0.02 / BEATS)

    asyncio.run(asyncio.wait_for(work(), 10))
    assert late == [9.0]


def test_the_clock_goes_on() -> None:
    assert clock() <= clock()


def test_silence_counts_from_the_last_word_or_from_the_start() -> None:
    now = Clock()
    silence = Silence(clock=now)
    now.now += 10
    silence.hear("a")
    now.now += 5
    assert (silence.seconds("a"), silence.seconds("b")) == (5, 15)
    silence.forget("a")
    assert silence.seconds("a") == 15
    silence.hear("a")
    now.now += 1
    silence.restart()
    now.now += 2
    assert (silence.seconds("a"), silence.seconds("b")) == (2, 2)


def test_old_records_are_warned_of_once_a_minute() -> None:
    now = Clock()
    now.now = 2_000_000.0
    topic = topics.topic("call.audio")
    watch = RetentionWatch(topic, clock=now)
    half_ms = topic.retention_ms // 2
    now_ms = round(now.now * 1000)
    assert not watch.look(now_ms - half_ms + 1000)
    assert not watch.look(0)  # no timestamp
    assert watch.look(now_ms - half_ms - 1000)
    assert not watch.look(now_ms - half_ms - 1000)
    now.now += AGAIN_SECONDS
    assert watch.look(now_ms - half_ms)
    assert not RetentionWatch(replace(topic, retention_ms=-1), clock=now).look(1)  # kept for ever
