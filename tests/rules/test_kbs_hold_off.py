"""A KBS that refuses or is away is left alone: one quote per hold, and the first cause for all."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent.attestation import AttestationAgent, MeasurementSettings
from agent.service import StatusServicer
from kbs import (
    AttestationRefusedError,
    AttestedSession,
    HandshakeHeldError,
    HoldOff,
    HoldOffPolicy,
    KbsError,
    KbsRefusedError,
    KbsUnreachableError,
    SessionKeeper,
    TeeKey,
)
from kbs.hold_off import LONGEST_RETRY_AFTER
from protos import cguest_pb2
from secrecy import Secret
from tests.rules.virtual_time import VirtualTime, settle
from tests.wire.kbs_sealing import make_token
from ttrpc import CallContext, Code, StatusError

KEY = TeeKey.generate()


class Middle(random.Random):
    """Always the middle of the range that is asked for."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class NoAttester:
    """A TEE that is never asked for evidence."""

    tee = "tdx"
    quotes_taken = 0

    async def evidence(self, runtime_data: bytes, *, timeout_s: float | None = None) -> bytes:
        raise AssertionError


class World:
    """A keeper in virtual time; handshakes fail with ``failure`` if there is one."""

    def __init__(self, *, spread: float = 0.0) -> None:
        self.time = VirtualTime()
        self.failure: Exception | None = None
        self.tried = 0
        self.hold = HoldOff(clock=self.time.clock, rng=Middle())
        self.keeper = SessionKeeper(
            self.handshake, self.time.clock, Middle(), self.time.sleep,
            hold_off=self.hold, start_spread_seconds=spread,
        )  # fmt: skip

    async def handshake(self) -> AttestedSession:
        self.tried += 1
        if self.failure is not None:
            raise self.failure
        token = Secret(make_token({"n": self.tried}))
        return AttestedSession(token, KEY, self.time.now + 300)

    async def ask(self) -> KbsError | None:
        try:
            await self.keeper.session()
        except KbsError as error:
            return error
        return None


async def test_a_caller_who_keeps_asking_costs_few_quotes() -> None:
    world = World()
    world.failure = AttestationRefusedError(401, "AttestationError", "RTMR2 differs")
    for _ in range(1200):  # two minutes, ten times a second
        assert await world.ask() is not None
        await world.time.advance(0.1)
    assert world.tried == 6  # at 0, 2, 6, 14, 30 and 62 s


async def test_the_error_of_a_hold_has_the_cause_and_its_verdict() -> None:
    world = World()
    world.failure = KbsUnreachableError("no connection (refused)", attempted="attesting to K")
    assert isinstance(await world.ask(), KbsUnreachableError)
    await world.time.advance(2)
    world.failure = AttestationRefusedError(401, "AttestationError", "", attempted="attesting to K")
    assert isinstance(await world.ask(), AttestationRefusedError)
    held = await world.ask()
    assert isinstance(held, HandshakeHeldError)
    assert held.decided
    assert not held.transient
    assert held.failures == 2
    assert held.retry_in == pytest.approx(4)
    assert "attesting to K: attestation refused" in str(held)
    assert "the first with: no connection (refused)" in str(held)
    assert held.__cause__ is held.__context__ is None  # no traceback that keeps a key alive


async def test_all_is_well_again_after_one_success() -> None:
    world = World()
    world.failure = RuntimeError("no quote")
    with pytest.raises(RuntimeError):
        await world.keeper.session()
    held = await world.ask()
    assert isinstance(held, HandshakeHeldError)
    assert not held.decided
    await world.time.advance(2)
    world.failure = None
    assert await world.ask() is None
    assert world.hold.remaining == 0
    world.failure = KbsUnreachableError("gone")
    await world.time.advance(300)
    assert isinstance(await world.ask(), KbsUnreachableError)
    assert world.hold.remaining == pytest.approx(2)  # counted anew


async def test_a_kbs_that_calls_every_token_bad_does_not_cost_a_quote_per_request() -> None:
    world = World()
    session = await world.keeper.session()
    session = await world.keeper.session(refused=session)  # exactly one renewal, at once
    assert world.tried == 2
    for _ in range(20):
        with pytest.raises(HandshakeHeldError, match="attestation token refused") as caught:
            await world.keeper.session(refused=session)
        assert caught.value.decided
        assert isinstance(await world.ask(), HandshakeHeldError)
    assert world.tried == 2
    await world.time.advance(2)
    assert await world.ask() is None
    assert world.tried == 3


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        pytest.param(None, 2.0, id="not said"),
        pytest.param(1.0, 2.0, id="shorter"),
        pytest.param(30.0, 30.0, id="longer"),
        pytest.param(1e8, LONGEST_RETRY_AFTER, id="absurd"),
    ],
)
async def test_retry_after_lengthens_the_hold(asked: float | None, held: float) -> None:
    world = World()
    world.failure = KbsRefusedError(503, "", "", retry_after=asked)
    await world.ask()
    assert world.hold.remaining == pytest.approx(held)


@pytest.mark.parametrize(
    ("failure", "also_refusals", "tried"),
    [
        pytest.param(KbsUnreachableError("x"), False, 2, id="network came"),
        pytest.param(AttestationRefusedError(401, "A", ""), False, 1, id="network, refused"),
        pytest.param(AttestationRefusedError(401, "A", ""), True, 2, id="on purpose"),
    ],
)
async def test_a_hold_is_released(failure: Exception, also_refusals: bool, tried: int) -> None:
    world = World()
    world.failure = failure
    await world.ask()
    world.keeper.release_hold(also_refusals=also_refusals)
    await world.ask()
    assert world.tried == tried
    assert world.hold.remaining > 2 or tried == 1  # failures still count


async def test_failures_of_long_ago_do_not_count() -> None:
    time = VirtualTime()
    hold = HoldOff(HoldOffPolicy(1.0, 10.0), clock=time.clock, rng=Middle())
    for _ in range(40):
        hold.failed(RuntimeError("x"))
    assert hold.remaining == pytest.approx(10)
    await time.advance(1000)
    hold.failed(RuntimeError("y"))
    assert hold.remaining == pytest.approx(1)


async def test_the_background_is_paced_by_itself_and_not_by_the_hold() -> None:
    world = World()
    task = asyncio.create_task(world.keeper.keep_fresh())
    await world.keeper.session()
    world.failure = KbsUnreachableError("gone")
    await world.time.advance(0.8 * 300 + 1 + 2)
    assert world.tried == 4
    assert await world.ask() is None  # the session is still good, so nobody is held
    task.cancel()
    await asyncio.wait([task])


async def test_only_the_first_handshake_is_spread() -> None:
    world = World(spread=10.0)
    waiting = [asyncio.create_task(world.ask()) for _ in range(5)]
    await settle()
    assert world.tried == 0
    await world.time.advance(5)
    assert await asyncio.gather(*waiting) == [None] * 5
    assert world.tried == 1
    await world.time.advance(300)
    assert await world.ask() is None
    assert world.time.sleeps == [5.0]


async def test_a_renewal_on_purpose_is_no_refusal_of_the_kbs() -> None:
    """A token that the KBS calls bad right after it is still replaced at once."""
    world = World()
    await world.keeper.session()
    renewed = await world.keeper.renew()
    replaced = await world.keeper.session(refused=renewed)
    assert replaced.token_id != renewed.token_id
    assert world.keeper.handshakes == 3


@pytest.mark.parametrize(
    ("failure", "code", "refused"),
    [
        pytest.param(
            AttestationRefusedError(401, "A", ""), Code.PERMISSION_DENIED, True, id="refused"
        ),
        pytest.param(KbsUnreachableError("x"), Code.UNAVAILABLE, False, id="unreachable"),
    ],
)
async def test_a_held_caller_is_told_as_the_first_one_was(
    failure: KbsError, code: Code, refused: bool
) -> None:
    """What a script decides by (the code, and with it ``cguest``'s exit code) stays the same."""
    world = World()
    world.failure = failure
    agent = AttestationAgent(NoAttester(), MeasurementSettings(False, 17, None))
    status = StatusServicer(agent, world.keeper, "https://kbs")
    context = CallContext(deadline=None, metadata={}, peer=None)
    for _ in range(2):
        with pytest.raises(StatusError) as caught:
            await status.attest(cguest_pb2.AttestRequest(), context)
        assert (caught.value.code, caught.value.refused) == (code, refused)
    assert world.tried == 1
    with pytest.raises(StatusError):
        await status.attest(cguest_pb2.AttestRequest(force=True), context)
    assert world.tried == 2  # asked on purpose
