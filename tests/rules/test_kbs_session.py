"""One session for everybody: single flight, exactly one renewal, early renewal, cancellation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kbs import AttestedSession, KbsUnreachableError, SessionKeeper, SessionState, TeeKey
from kbs.session import LONGEST_SLEEP, SHORTEST_RENEWAL
from secrecy import Secret
from tests.rules.virtual_time import VirtualTime, settle
from tests.wire.kbs_sealing import make_token

KEY = TeeKey.generate()
LIFE = 300.0


class Attester:
    """Hands out numbered sessions, when the gate is open and unless told to fail."""

    def __init__(self, time: VirtualTime, life: float | None = LIFE) -> None:
        self.time = time
        self.life = life
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = 0
        self.cancelled = 0
        self.failure: Exception | None = None

    async def handshake(self) -> AttestedSession:
        self.started += 1
        number = self.started
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        expires_at = None if self.life is None else self.time.now + self.life
        return AttestedSession(Secret(make_token({"n": number})), KEY, expires_at)


class Edge(random.Random):
    """Always the end of the range that is asked for."""

    def __init__(self, upper: bool) -> None:
        super().__init__(0)
        self.upper = upper

    def uniform(self, a: float, b: float) -> float:
        return b if self.upper else a


def keeper_of(attester: Attester, rng: random.Random | None = None) -> SessionKeeper:
    time = attester.time
    return SessionKeeper(attester.handshake, time.clock, rng or Edge(True), time.sleep)


def state_of(keeper: SessionKeeper) -> SessionState:
    return keeper.state  # through a function, so that no checker takes it for constant


@asynccontextmanager
async def kept_fresh(keeper: SessionKeeper) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(keeper.keep_fresh())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_two_hundred_waiters_share_one_handshake() -> None:
    attester = Attester(VirtualTime())
    attester.gate.clear()
    keeper = keeper_of(attester)
    assert state_of(keeper) is SessionState.NONE
    waiters = [asyncio.create_task(keeper.session()) for _ in range(200)]
    await settle()
    assert state_of(keeper) is SessionState.ATTESTING
    attester.gate.set()
    sessions = await asyncio.gather(*waiters)
    assert len({id(session) for session in sessions}) == 1
    assert attester.started == keeper.handshakes == 1
    assert state_of(keeper) is SessionState.ATTESTED
    assert await keeper.session() is sessions[0]
    assert attester.started == 1


async def test_a_refused_session_is_renewed_exactly_once() -> None:
    attester = Attester(VirtualTime())
    keeper = keeper_of(attester)
    first = await keeper.session()
    again = await asyncio.gather(*(keeper.session(refused=first) for _ in range(50)))
    assert {session.token_id for session in again} == {again[0].token_id}
    assert again[0].token_id != first.token_id
    assert attester.started == 2
    # A latecomer with the old session gets the new one without another handshake.
    assert await keeper.session(refused=first) is again[0]
    assert attester.started == 2


async def test_refusal_is_told_by_the_token_not_by_the_object() -> None:
    keeper = keeper_of(Attester(VirtualTime()))
    first = await keeper.session()
    copy = AttestedSession(Secret(first.token.reveal()), first.tee_key, first.expires_at)
    assert (await keeper.session(refused=copy)).token_id != first.token_id


async def test_an_ended_session_is_not_handed_out() -> None:
    time = VirtualTime()
    attester = Attester(time)
    keeper = keeper_of(attester)
    first = await keeper.session()
    assert first.expires_at == time.now + LIFE
    await time.advance(LIFE)
    assert keeper.current is None
    assert keeper.renew_at is None
    assert keeper.expires_at is None
    assert await keeper.session() is not first


async def test_cancelling_one_waiter_leaves_the_others() -> None:
    attester = Attester(VirtualTime())
    attester.gate.clear()
    keeper = keeper_of(attester)
    starter = asyncio.create_task(keeper.session())
    other = asyncio.create_task(keeper.session())
    await settle()
    starter.cancel()
    await asyncio.wait([starter])
    assert starter.cancelled()
    assert attester.cancelled == 0
    attester.gate.set()
    assert await other is keeper.current
    assert attester.started == 1


async def test_cancelling_the_last_waiter_ends_the_handshake() -> None:
    attester = Attester(VirtualTime())
    attester.gate.clear()
    keeper = keeper_of(attester)
    waiters = [asyncio.create_task(keeper.session()) for _ in range(3)]
    await settle()
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    assert attester.cancelled == 1
    assert state_of(keeper) is SessionState.NONE
    assert keeper.last_error == ""
    attester.gate.set()
    await keeper.session()
    assert attester.started == 2


async def test_a_newcomer_does_not_join_a_dying_handshake() -> None:
    time = VirtualTime()
    attester = Attester(time)
    reluctant = asyncio.Event()

    async def handshake() -> AttestedSession:
        try:
            return await attester.handshake()
        finally:
            await reluctant.wait()

    keeper = SessionKeeper(handshake, time.clock, Edge(True), time.sleep)
    attester.gate.clear()
    last = asyncio.create_task(keeper.session())
    await settle()
    last.cancel()
    await settle()
    newcomer = asyncio.create_task(keeper.session())
    attester.gate.set()
    reluctant.set()
    assert (await newcomer).token_id
    assert last.cancelled()
    assert attester.started == 2


async def test_a_failure_reaches_every_waiter_and_is_remembered() -> None:
    attester = Attester(VirtualTime())
    attester.failure = KbsUnreachableError("no connection (refused)")
    keeper = keeper_of(attester)
    results = await asyncio.gather(*(keeper.session() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, KbsUnreachableError) for result in results)
    assert attester.started == 1
    assert state_of(keeper) is SessionState.FAILED
    assert "refused" in keeper.last_error
    attester.failure = None
    await keeper.session()
    assert state_of(keeper) is SessionState.ATTESTED
    assert keeper.last_error == ""


@pytest.mark.parametrize(
    ("upper", "share"), [pytest.param(False, 0.7, id="early"), pytest.param(True, 0.9, id="late")]
)
async def test_renewal_falls_at_four_fifths_of_life(upper: bool, share: float) -> None:
    time = VirtualTime()
    attester = Attester(time)
    keeper = keeper_of(attester, Edge(upper))
    async with kept_fresh(keeper):
        await time.advance(1000)
        assert attester.started == 0  # nobody has asked for anything yet
        await keeper.session()
        assert keeper.renew_at == pytest.approx(time.now + share * LIFE)
        await time.advance(share * LIFE - 1)
        assert keeper.handshakes == 1
        await time.advance(1)
        assert keeper.handshakes == 2
        await time.advance(10 * share * LIFE)
        assert keeper.handshakes == 12


async def test_a_failed_renewal_keeps_the_session_and_is_tried_again() -> None:
    time = VirtualTime()
    attester = Attester(time)
    keeper = keeper_of(attester)
    async with kept_fresh(keeper):
        first = await keeper.session()
        attester.failure = RuntimeError("quote provider absent")
        await time.advance(0.9 * LIFE)
        assert attester.started == 2
        assert keeper.last_error == "quote provider absent"
        assert state_of(keeper) is SessionState.ATTESTED
        assert await keeper.session() is first
        await time.advance(1.5 + 3)  # pauses of 1 s and 2 s, half as much again
        assert attester.started == 4
        attester.failure = None
        await time.advance(6)
        assert keeper.handshakes == 2
        assert keeper.last_error == ""
        assert await keeper.session() is not first


async def test_renewal_stops_with_the_life_of_the_session() -> None:
    time = VirtualTime()
    attester = Attester(time)
    keeper = keeper_of(attester)
    async with kept_fresh(keeper) as task:
        await keeper.session()
        attester.failure = KbsUnreachableError("gone")
        await time.advance(LIFE)
        tries = attester.started
        assert state_of(keeper) is SessionState.FAILED
        await time.advance(100 * LIFE)
        assert attester.started == tries
        attester.failure = None
        await keeper.session()
        await time.advance(0.9 * LIFE)
        assert attester.started == tries + 2
        assert not task.done()


async def test_a_clock_that_jumps_is_noticed() -> None:
    time = VirtualTime()
    attester = Attester(time, life=36_000)
    keeper = keeper_of(attester)
    async with kept_fresh(keeper):
        await keeper.session()
        await settle()
        time.now += 35_000  # the VM was paused
        await time.advance(LONGEST_SLEEP)
        assert keeper.handshakes == 2


async def test_a_session_that_ends_sooner_than_the_one_before_is_renewed_in_time() -> None:
    time = VirtualTime()
    attester = Attester(time, life=50)
    keeper = keeper_of(attester)
    async with kept_fresh(keeper):
        first = await keeper.session()
        await time.advance(1)
        attester.life = 10
        await keeper.session(refused=first)
        await time.advance(9)
        assert keeper.handshakes == 3


@pytest.mark.parametrize("life", [0.0, -1000.0, 0.001], ids=["born dead", "long dead", "1 ms"])
async def test_a_token_of_no_life_does_not_spin_the_background(life: float) -> None:
    time = VirtualTime()
    attester = Attester(time, life)
    keeper = keeper_of(attester)
    async with kept_fresh(keeper):
        assert (await keeper.session()).token_id  # its caller may still try it
        await time.advance(10 * SHORTEST_RENEWAL)
        assert attester.started == 1


async def test_a_token_without_end_is_kept_and_never_renewed() -> None:
    time = VirtualTime()
    attester = Attester(time, life=None)
    keeper = keeper_of(attester)
    async with kept_fresh(keeper):
        first = await keeper.session()
        await time.advance(10_000_000)
        assert await keeper.session() is first
        assert keeper.renew_at is None
        assert attester.started == 1


async def test_cancelling_the_background_takes_its_renewal_along() -> None:
    time = VirtualTime()
    attester = Attester(time)
    keeper = keeper_of(attester)
    async with kept_fresh(keeper):
        await keeper.session()
        attester.gate.clear()
        await time.advance(0.9 * LIFE)
        assert attester.started == 2
        assert state_of(keeper) is SessionState.ATTESTED
    assert attester.cancelled == 1


async def test_nothing_of_a_session_is_printed() -> None:
    keeper = keeper_of(Attester(VirtualTime()))
    session = await keeper.session()
    shown: list[Callable[[], str]] = [lambda: repr(session), lambda: f"{session}"]
    for show in shown:
        assert session.token.reveal_text() not in show()
        assert "BEGIN" not in show()
    assert len(session.token_id) == 64
