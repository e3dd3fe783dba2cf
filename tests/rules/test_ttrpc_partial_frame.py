"""How long a frame may stay incomplete, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from ttrpc.partial import PartialFrame


@dataclass(eq=False)
class Timer:
    when: float
    action: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Clock:
    """As much of a loop as the watch asks for."""

    now: float = 100.0
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, action: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay, action)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [each for each in self.timers if not each.is_cancelled and each.when <= end]:
            timer = min(due, key=lambda each: each.when)
            self.timers.remove(timer)
            self.now = timer.when
            timer.action()
        self.now = end


@dataclass
class Watched:
    clock: Clock
    frame: PartialFrame
    is_reading: bool = True
    given_up: int = 0


@pytest.fixture
async def watched() -> Watched:
    clock = Clock()

    def give_up() -> None:
        found.given_up += 1

    frame = PartialFrame(10.0, lambda: found.is_reading, give_up)
    frame._loop = cast("asyncio.AbstractEventLoop", clock)
    found = Watched(clock, frame)
    return found


def test_an_unfinished_frame_is_given_up_once(watched: Watched) -> None:
    watched.frame.note(0, inside=True)
    watched.clock.advance(9.9)
    watched.frame.note(0, inside=True)  # another byte of the same frame
    assert watched.given_up == 0
    watched.clock.advance(0.2)
    assert watched.given_up == 1
    watched.clock.advance(100)
    assert watched.given_up == 1


def test_a_finished_frame_is_not(watched: Watched) -> None:
    watched.frame.note(0, inside=True)
    watched.clock.advance(5)
    watched.frame.note(1, inside=False)
    watched.clock.advance(100)
    assert (watched.given_up, watched.frame.since) == (0, None)


def test_each_frame_has_its_own_time(watched: Watched) -> None:
    for frames in range(20):  # always inside one, never in the same for long
        watched.frame.note(frames, inside=True)
        watched.clock.advance(6)
    assert watched.given_up == 0
    watched.clock.advance(5)
    assert watched.given_up == 1


def test_time_without_reading_does_not_count(watched: Watched) -> None:
    watched.frame.note(0, inside=True)
    watched.is_reading = False
    watched.clock.advance(60)
    assert watched.given_up == 0
    watched.is_reading = True
    watched.clock.advance(10)
    assert watched.given_up == 1


def test_a_closed_connection_is_watched_no_longer(watched: Watched) -> None:
    watched.frame.cancel()
    watched.frame.note(0, inside=True)
    watched.frame.cancel()
    watched.clock.advance(100)
    assert watched.given_up == 0
