"""Kept secrets: only while the broker is away, only for their time, never after a refusal."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

import pytest

from kbs import (
    AttestationRefusedError,
    JweError,
    KbsError,
    KbsUnreachableError,
    NoKbsAnsweredError,
    PolicyDeniedError,
    ResourceMissingError,
    ResourceUri,
    ResourceWatch,
    RideThrough,
    WatchState,
)
from secrecy import Secret
from tests.rules.virtual_time import VirtualTime

URI = ResourceUri.parse("kbs:///a/b/c")
AWAY = KbsUnreachableError("no connection")


class Broker:
    """Gives ``content``, or fails."""

    def __init__(self) -> None:
        self.content = b"first"
        self.failure: Exception | None = None

    async def get(self, uri: ResourceUri) -> Secret:
        if self.failure is not None:
            raise self.failure
        return Secret(self.content)


async def test_off_means_that_nothing_is_kept() -> None:
    broker = Broker()
    source = RideThrough(broker, 0)
    await source.get(URI)
    assert source.status.kept == 0
    broker.failure = AWAY
    with pytest.raises(KbsUnreachableError):
        await source.get(URI)
    assert source.status.since is not None  # the state is known all the same


@pytest.mark.parametrize(
    "failure", [AWAY, NoKbsAnsweredError(["a: x", "b: y"], attempted="z")], ids=["one", "all"]
)
async def test_a_kept_secret_is_served_while_the_broker_is_away(failure: KbsError) -> None:
    time = VirtualTime()
    broker = Broker()
    source = RideThrough(broker, 3600, clock=time.clock)
    (await source.get(URI)).wipe()
    broker.failure = failure
    for _ in range(3):
        assert (await source.get(URI)).reveal() == b"first"
    with pytest.raises(type(failure)):
        await source.get(ResourceUri.parse("kbs:///a/b/never-given"))
    status = source.status
    assert (status.kept, status.served, status.since) == (1, 3, time.now)
    assert failure.problem in status.last_error
    broker.failure, broker.content = None, b"second"
    assert (await source.get(URI)).reveal() == b"second"
    assert source.status.since is None
    assert source.status.last_error == ""
    broker.failure = AWAY
    assert (await source.get(URI)).reveal() == b"second"
    source.close()
    with pytest.raises(KbsUnreachableError):
        await source.get(URI)


async def test_its_time_ends() -> None:
    broker = Broker()
    source = RideThrough(broker, 0.01)
    await source.get(URI)
    broker.failure = AWAY
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, ended.set_result, None)
    await ended
    with pytest.raises(KbsUnreachableError):
        await source.get(URI)
    assert source.status.kept == 0


@pytest.mark.parametrize(
    ("failure", "kept"),
    [
        pytest.param(PolicyDeniedError(401, "PolicyDeny", ""), 0, id="denied"),
        pytest.param(ResourceMissingError(401, "PluginInternalError", ""), 0, id="missing"),
        pytest.param(AttestationRefusedError(401, "AttestationError", ""), 0, id="attestation"),
        pytest.param(JweError(), 1, id="altered on the way"),
        pytest.param(RuntimeError("a defect"), 1, id="defect"),
    ],
)
async def test_nothing_else_is_ridden_through(failure: Exception, kept: int) -> None:
    broker = Broker()
    source = RideThrough(broker, 3600)
    await source.get(URI)
    broker.failure = failure
    with pytest.raises(type(failure)):
        await source.get(URI)
    assert source.status.kept == kept
    assert source.status.served == 0
    source.close()


class Middle(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


async def test_a_watch_tells_changes_and_nothing_else() -> None:
    time = VirtualTime()
    broker = Broker()
    watch = ResourceWatch(broker, URI, 10, clock=time.clock, rng=Middle(), sleep=time.sleep)
    told: list[tuple[WatchState, float]] = []

    async def listen() -> None:
        async with aclosing(watch.events()) as events:
            async for event in events:
                state, at = event.state, event.at - 1_000_000
                told.append((state, at))

    task = asyncio.create_task(listen())
    await time.advance(25)  # looks at 0, 10 and 20
    broker.content = b"second"
    await time.advance(10)  # 30
    broker.failure = AWAY
    await time.advance(20)  # 40, 50
    broker.failure = None
    await time.advance(10)  # 60
    broker.failure = PolicyDeniedError(401, "PolicyDeny", "")
    await time.advance(20)  # 70, 80
    broker.failure, broker.content = None, b"third"
    await time.advance(20)  # 90, 100
    task.cancel()
    await asyncio.wait([task])
    assert told == [
        (WatchState.PRESENT, 0),
        (WatchState.CHANGED, 30),
        (WatchState.AWAY, 40),
        (WatchState.PRESENT, 60),
        (WatchState.REFUSED, 70),
        (WatchState.CHANGED, 90),
    ]


async def test_a_watch_keeps_neither_content_nor_its_plain_digest() -> None:
    broker = Broker()
    watch = ResourceWatch(broker, URI, 1)
    again = ResourceWatch(broker, URI, 1)
    for each in (watch, again):
        async with aclosing(each.events()) as events:
            assert (await anext(events)).state is WatchState.PRESENT
    assert watch._digest is not None
    assert watch._digest != again._digest  # a digest without the key could be guessed


@pytest.mark.parametrize("interval", [0.0, -1.0])
def test_an_interval_is_positive(interval: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        ResourceWatch(Broker(), URI, interval)
