"""A thousand guests boot at once: how their requests arrive at the KBS.

``python -m bench.stampede`` runs the product's own session keeper, hold-off and retries for every
guest in virtual time, against a model of a KBS: so many requests a second, a queue, 503 beyond it.
No network and no cryptography; it takes seconds and gives the same figures each time.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from kbs import (
    AttestedSession,
    HoldOff,
    KbsError,
    KbsRefusedError,
    KbsUnreachableError,
    RetryPolicy,
    SessionKeeper,
    TeeKey,
)
from kbs.retry import Retrier
from secrecy import Secret
from secrecy.journal import configure_logging

GUESTS: Final = 1000
QUOTE_SECONDS: Final = 1.026  # TDG.VP.VMCALL<GetQuote> on a stock kernel
ROUND_TRIP: Final = 0.002
CALLER_PAUSE: Final = 1.0  # a caller who was told no asks again
OPERATION_SECONDS: Final = 45.0
KEY: Final = TeeKey.generate()


class JumpingSelector(selectors.DefaultSelector):
    """Never waits: where the loop would sleep, its clock jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("the simulation waits for something that cannot come")
        if not ready and timeout is not None:
            self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio as it is, in virtual time."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class NoJitter(random.Random):
    """Always the upper end: what back-off is without chance."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - the signature is Random's
        return b


@dataclass(frozen=True, slots=True)
class Scenario:
    """``rate`` requests a second are served, ``queue`` may wait; away until ``opens_at``."""

    name: str
    spread_seconds: float
    jitter: bool = True
    rate: float = float("inf")
    queue: int = 0
    opens_at: float = 0.0


@dataclass(slots=True)
class Kbs:
    """The model: one server that takes requests in the order of their arrival."""

    scenario: Scenario
    arrivals: list[float] = field(default_factory=list)
    refused: int = 0
    free_at: float = 0.0

    async def request(self) -> None:
        now = asyncio.get_running_loop().time()
        self.arrivals.append(now)
        if now < self.scenario.opens_at:
            raise KbsUnreachableError("no connection (Connection refused)")
        waiting = (self.free_at - now) * self.scenario.rate if self.free_at > now else 0.0
        if waiting > self.scenario.queue:
            self.refused += 1
            raise KbsRefusedError(503, "", "")
        self.free_at = max(self.free_at, now) + 1 / self.scenario.rate
        await asyncio.sleep(self.free_at - now + ROUND_TRIP)


@dataclass(slots=True)
class Outcome:
    """What the KBS saw, and what the guests had of it."""

    scenario: Scenario
    arrivals: list[float]
    refused: int
    quotes: int
    attested_at: list[float]

    def peak(self, seconds: float) -> float:
        """The most requests that arrived in any slot of ``seconds``, per second."""
        slots = Counter(int(at / seconds) for at in self.arrivals)
        return max(slots.values()) / seconds

    def curve(self, seconds: float, slots: int) -> list[int]:
        """Requests in each of the first ``slots`` slots."""
        counted = Counter(int(at / seconds) for at in self.arrivals)
        return [counted[slot] for slot in range(slots)]


async def _guest(kbs: Kbs, number: int, outcome: Outcome) -> None:
    """One guest whose pod asks until it has its session."""
    loop = asyncio.get_running_loop()
    rng = random.Random(number) if kbs.scenario.jitter else NoJitter(number)

    async def exchange() -> None:
        retrier = Retrier(RetryPolicy(), clock=loop.time, rng=rng)
        await retrier.run(kbs.request, loop.time() + OPERATION_SECONDS)

    async def handshake() -> AttestedSession:
        await exchange()
        outcome.quotes += 1
        await asyncio.sleep(QUOTE_SECONDS)
        await exchange()
        return AttestedSession(Secret(f"token of {number}"), KEY, None)

    keeper = SessionKeeper(
        handshake, loop.time, rng,
        hold_off=HoldOff(clock=loop.time, rng=rng),
        start_spread_seconds=kbs.scenario.spread_seconds,
    )  # fmt: skip
    while True:
        try:
            await keeper.session()
            outcome.attested_at.append(loop.time())
            return
        except KbsError:
            await asyncio.sleep(CALLER_PAUSE)


async def _simulate(scenario: Scenario, guests: int) -> Outcome:
    kbs = Kbs(scenario)
    outcome = Outcome(scenario, kbs.arrivals, 0, 0, [])
    async with asyncio.TaskGroup() as group:
        for number in range(guests):
            group.create_task(_guest(kbs, number, outcome))
    outcome.refused = kbs.refused
    return outcome


def simulate(scenario: Scenario, guests: int = GUESTS) -> Outcome:
    """Run one scenario to its end, in virtual time."""
    return in_virtual_time(lambda: _simulate(scenario, guests))


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, Outcome]]) -> Outcome:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


SCENARIOS: Final = (
    Scenario("KBS copes, no spread", 0.0),
    Scenario("KBS copes, 0.2 s (default)", 0.2),
    Scenario("KBS copes, 5 s", 5.0),
    Scenario("KBS copes, 30 s", 30.0),
    Scenario("200/s, no spread, no jitter", 0.0, jitter=False, rate=200, queue=100),
    Scenario("200/s, no spread", 0.0, rate=200, queue=100),
    Scenario("200/s, 0.2 s (default)", 0.2, rate=200, queue=100),
    Scenario("200/s, 10 s", 10.0, rate=200, queue=100),
    Scenario("away 60 s, no jitter", 0.0, jitter=False, rate=200, queue=100, opens_at=60.0),
    Scenario("away 60 s, 0.2 s (default)", 0.2, rate=200, queue=100, opens_at=60.0),
)


def _row(outcome: Outcome) -> str:
    cells = [
        outcome.scenario.name,
        f"{outcome.peak(0.1):.0f}",
        f"{outcome.peak(1.0):.0f}",
        str(len(outcome.arrivals)),
        str(outcome.refused),
        f"{outcome.quotes / len(outcome.attested_at):.2f}",
        f"{max(outcome.attested_at):.1f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def _bars(outcome: Outcome, seconds: float, slots: int) -> str:
    lines = [f"{outcome.scenario.name}: requests in each {seconds:g} s"]
    for slot, count in enumerate(outcome.curve(seconds, slots)):
        lines.append(f"  {slot * seconds:5.1f} s {count:5d} {'#' * -(-count // 20)}")
    return "\n".join(lines)


def main() -> None:
    configure_logging("error")
    started = time.perf_counter()
    outcomes = [simulate(scenario) for scenario in SCENARIOS]
    print(f"{GUESTS} guests, all booted at 0 s, a quote takes {QUOTE_SECONDS} s\n")
    titles = ["scenario", "peak/s (0.1 s)", "peak/s (1 s)", "requests", "503",
              "quotes each", "last attested"]  # fmt: skip
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    for outcome in outcomes:
        print(_row(outcome))
    for name in ("200/s, no spread, no jitter", "200/s, 10 s"):
        print("\n" + _bars(next(o for o in outcomes if o.scenario.name == name), 0.5, 30))
    print(f"\n{len(outcomes)} scenarios took {time.perf_counter() - started:.0f} s of real time")


if __name__ == "__main__":
    main()
