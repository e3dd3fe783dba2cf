"""Any order of requests, refusals, cancellations and failures: the keeper's promises hold."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kbs import AttestedSession, KbsUnreachableError, SessionKeeper, TeeKey
from secrecy import Secret
from tests.rules.virtual_time import VirtualTime, settle
from tests.wire.kbs_sealing import make_token

KEY = TeeKey.generate()
LIFE = 300.0

STEPS = st.lists(
    st.one_of(
        st.sampled_from(["ask", "refuse", "cancel", "cancel all", "finish", "fail", "mend"]),
        st.floats(1, 400).map(lambda seconds: f"advance {seconds}"),
    ),
    max_size=25,
)


class World:
    """A keeper, its callers, and an attester whose handshakes end when told."""

    def __init__(self) -> None:
        self.time = VirtualTime()
        self.keeper = SessionKeeper(
            self.handshake, self.time.clock, random.Random(7), self.time.sleep
        )
        self.gate = asyncio.Event()
        self.failing = False
        self.made = 0
        self.active = 0
        self.callers: list[asyncio.Task[None]] = []
        self.refused: set[str] = set()

    async def handshake(self) -> AttestedSession:
        self.active += 1
        assert self.active == 1, "two handshakes at a time"
        try:
            await self.gate.wait()
        finally:
            self.active -= 1
        if self.failing:
            raise KbsUnreachableError("no connection")
        self.made += 1
        token = Secret(make_token({"n": self.made}))
        return AttestedSession(token, KEY, self.time.now + LIFE)

    async def ask(self, refused: AttestedSession | None) -> None:
        try:
            session = await self.keeper.session(refused=refused)
        except KbsUnreachableError:
            return
        assert session.token_id not in self.refused
        assert session.expires_at is not None
        assert session.expires_at > self.time.now

    async def step(self, step: str) -> None:
        name, _, argument = step.partition(" ")
        current = self.keeper.current
        live = [caller for caller in self.callers if not caller.done()]
        match name:
            case "ask":
                self.callers.append(asyncio.create_task(self.ask(None)))
            case "refuse" if current is not None:
                self.refused.add(current.token_id)
                self.callers.append(asyncio.create_task(self.ask(current)))
            case "cancel":
                for caller in live if argument else live[:1]:
                    caller.cancel()
            case "finish":
                self.gate.set()
                await settle()
                self.gate.clear()
            case "fail" | "mend":
                self.failing = name == "fail"
            case "advance":
                await self.time.advance(float(argument))
            case _:
                pass
        await settle()


async def play(steps: list[str]) -> None:
    world = World()
    background = asyncio.create_task(world.keeper.keep_fresh())
    for step in steps:
        await world.step(step)
        assert not background.done()
        assert world.keeper.handshakes == world.made
    world.gate.set()
    if world.callers:
        await asyncio.wait(world.callers)
    background.cancel()
    await asyncio.wait([background])
    await settle()
    assert world.active == 0
    for caller in world.callers:
        assert caller.cancelled() or caller.exception() is None


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_promises_hold_in_any_order(steps: list[str]) -> None:
    with asyncio.Runner() as runner:
        runner.run(play(steps))
