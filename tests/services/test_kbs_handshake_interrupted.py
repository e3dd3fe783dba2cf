"""An exception at any await of the handshake leaves no wrong state: tried at each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from kbs import (
    AttestedSession,
    HandshakeHeldError,
    HoldOff,
    KbsClient,
    SessionKeeper,
    SessionState,
    TeeKeyAlgorithm,
)
from kbs.http_link import MAX_CONNECTIONS
from tests.services.fake_kbs import FakeKbs, running
from tests.services.kbs_client_parts import ONCE, PATIENT, URI, Attester


class InterruptedAt:
    """Runs a coroutine and throws ``error`` into it where it waits for the n-th time."""

    def __init__(self, inner: Coroutine[Any, Any, AttestedSession], n: int, error: BaseException):
        self.inner = inner
        self.left = n
        self.error = error
        self.fired = False

    def __await__(self) -> Generator[Any, Any, AttestedSession]:
        inner = self.inner.__await__()
        value: Any = None
        try:
            while True:
                waited_for = inner.send(value)
                if self.left == 0 and not self.fired:
                    self.fired = True
                    waited_for = inner.throw(self.error)
                self.left -= 1
                value = yield waited_for
        except StopIteration as done:
            session: AttestedSession = done.value
            return session


class PausingAttester(Attester):
    """Gives way at every step, as the real one does."""

    async def tee(self) -> str:
        await asyncio.sleep(0)
        return await super().tee()

    async def evidence(self, runtime_digest: bytes) -> Any:
        await asyncio.sleep(0)
        return await super().evidence(runtime_digest)


async def _session_or_error(keeper: SessionKeeper) -> BaseException | None:
    try:
        await keeper.session()
    except (Exception, asyncio.CancelledError) as error:
        return error
    return None


def _state(keeper: SessionKeeper) -> SessionState:
    return keeper.state  # through a function, so that no checker takes it for constant


async def _interrupt(kbs: FakeKbs, n: int, error: BaseException, key: TeeKeyAlgorithm) -> bool:
    """Interrupt at the n-th await and look around. False: there is none."""
    async with KbsClient(kbs.url, limits=PATIENT, retries=ONCE, key_algorithm=key) as client:
        attempt: list[InterruptedAt] = []

        async def handshake() -> AttestedSession:
            made = client.handshake(PausingAttester())
            if attempt:
                return await made
            attempt.append(InterruptedAt(made, n, error))
            return await attempt[0]

        keeper = SessionKeeper(handshake, hold_off=HoldOff())
        raised = await _session_or_error(keeper)
        if not attempt[0].fired:
            assert raised is None
            return False
        assert raised is not None
        assert keeper.current is None
        assert keeper.handshakes == 0
        # Only a failure is held against the KBS; a caller who leaves says nothing about it.
        failed = not isinstance(error, asyncio.CancelledError)
        assert _state(keeper) is (SessionState.FAILED if failed else SessionState.NONE)
        assert isinstance(await _session_or_error(keeper), HandshakeHeldError) is failed
        assert client._link._turns._value == MAX_CONNECTIONS
        keeper._hold_off = None
        session = await keeper.session()
        assert (await client.resource(URI, session)).reveal() == b"the secret"
        assert _state(keeper) is SessionState.ATTESTED
        assert keeper.last_error == ""
    return True


@pytest.mark.parametrize(
    ("error", "key"),
    [
        pytest.param(asyncio.CancelledError(), TeeKeyAlgorithm.EC_P256, id="cancelled"),
        pytest.param(asyncio.CancelledError(), TeeKeyAlgorithm.RSA_OAEP_256, id="cancelled, RSA"),
        pytest.param(ConnectionResetError(104, "reset"), TeeKeyAlgorithm.EC_P256, id="connection"),
        pytest.param(TimeoutError(), TeeKeyAlgorithm.EC_P256, id="timeout"),
        pytest.param(MemoryError(), TeeKeyAlgorithm.EC_P256, id="memory"),
        pytest.param(RuntimeError("defect"), TeeKeyAlgorithm.EC_P256, id="defect"),
    ],
)
async def test_no_await_leaves_a_wrong_state(error: BaseException, key: TeeKeyAlgorithm) -> None:
    async with running() as kbs:
        points = 0
        while await _interrupt(kbs, points, error, key):
            points += 1
        assert points >= 6  # tee, two requests with connecting and reading, evidence
