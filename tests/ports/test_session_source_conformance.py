"""One suite for every ``kbs.SessionSource``: the keeper in one process, the hub's over a socket."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdh.agent_client import AgentSessionSource
from kbs import AttestedSession, SessionKeeper, SessionSource, TeeKey, session_to_aa_json
from kbs import TeeKeyAlgorithm as Algorithm
from lifecycle import UnixAddress
from protos import attestation_agent_pb2 as aa
from protos import services
from secrecy import Secret
from tests.services.table_server import serve
from ttrpc import CallContext, Code, Method, ServiceTable, StatusError


class Attester:
    """Makes sessions, and counts them. ``gate`` holds it back until it is opened."""

    def __init__(self) -> None:
        self.made = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def __call__(self) -> AttestedSession:
        await self.gate.wait()
        if self.broken:
            raise StatusError(Code.INTERNAL, "the quote was refused")
        self.made += 1
        return _session(self.made)


def _session(number: int) -> AttestedSession:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    ends = int(time.time()) + 300
    token = f"{part({'alg': 'ES256'})}.{part({'exp': ends, 'number': number})}.c2ln"
    return AttestedSession(Secret(token), TeeKey.generate(Algorithm.EC_P256), float(ends))


@dataclass
class Rig:
    """A source under test and the attester behind it."""

    source: SessionSource
    attester: Attester


@asynccontextmanager
async def keeper(_folder: Path) -> AsyncIterator[Rig]:
    attester = Attester()
    yield Rig(SessionKeeper(attester), attester)


@asynccontextmanager
async def over_socket(folder: Path) -> AsyncIterator[Rig]:
    """An agent's socket whose GetToken is a keeper's session, as the real agent's is."""
    attester = Attester()
    kept = SessionKeeper(attester)

    async def get_token(_request: aa.GetTokenRequest, context: CallContext) -> aa.GetTokenResponse:
        current = kept.current
        refused = context.metadata.get("cguest-refused-token", [])
        is_refused = current is not None and current.token_id in refused
        session = await kept.session(refused=current if is_refused else None)
        return aa.GetTokenResponse(Token=session_to_aa_json(session).reveal())

    table = ServiceTable(
        services.ATTESTATION_AGENT,
        {"GetToken": Method(aa.GetTokenRequest, aa.GetTokenResponse, get_token)},
    )
    path = folder / "aa.sock"
    source = AgentSessionSource(UnixAddress(str(path)))
    async with serve([table], path):
        try:
            yield Rig(source, attester)
        finally:
            await source.aclose()


Opener = Callable[[Path], AbstractAsyncContextManager[Rig]]
sources = pytest.mark.parametrize("opened", [keeper, over_socket], ids=["keeper", "agent socket"])


@sources
async def test_one_session_serves_everybody(opened: Opener, tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        rig.attester.gate.clear()
        waiting = [asyncio.ensure_future(rig.source.session()) for _ in range(10)]
        await asyncio.sleep(0)
        rig.attester.gate.set()
        sessions = await asyncio.gather(*waiting)
        assert len({session.token_id for session in sessions}) == 1
        assert (await rig.source.session()).token_id == sessions[0].token_id
        assert rig.attester.made == 1


@sources
async def test_a_refused_session_is_replaced_once(opened: Opener, tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        first = await rig.source.session()
        renewed = await asyncio.gather(*(rig.source.session(refused=first) for _ in range(5)))
        assert {session.token_id for session in renewed} == {renewed[0].token_id}
        assert renewed[0].token_id != first.token_id
        # Late news of the old refusal does not cost another handshake.
        assert (await rig.source.session(refused=first)).token_id == renewed[0].token_id
        assert rig.attester.made == 2


@sources
async def test_token_and_key_arrive_together(opened: Opener, tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        session = await rig.source.session()
        again = await rig.source.session()
        assert session.tee_key.to_pem().matches(again.tee_key.to_pem())
        assert session.expires_at is not None


@sources
async def test_a_failure_is_told_and_not_kept(opened: Opener, tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        rig.attester.broken = True
        with pytest.raises(Exception, match="the quote was refused"):
            await rig.source.session()
        rig.attester.broken = False
        await rig.source.session()
        assert rig.attester.made == 1


@sources
async def test_a_caller_who_leaves_takes_nobody_along(opened: Opener, tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        rig.attester.gate.clear()
        leaving = asyncio.ensure_future(rig.source.session())
        staying = asyncio.ensure_future(rig.source.session())
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        rig.attester.gate.set()
        await staying
        assert leaving.cancelled()
        assert rig.attester.made == 1
