"""Sessions from an attestation agent's socket: asked for once, shared, renewed, reconnected."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path

import pytest

from cdh.agent_client import AgentSessionSource
from cdh.errors import AgentRefusedError, AgentUnreachableError
from kbs import AttestedSession, TeeKey, TeeKeyAlgorithm, session_to_aa_json
from lifecycle import UnixAddress
from protos import attestation_agent_pb2 as aa
from protos import services
from secrecy import Secret
from tests.services.table_server import serve
from ttrpc import CallContext, Code, Method, ServiceTable, StatusError


class FakeAgent:
    """An attestation agent that gives a fresh session at each request."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.calls = 0
        self.refusal: StatusError | None = None

    async def get_token(
        self, request: aa.GetTokenRequest, context: CallContext
    ) -> aa.GetTokenResponse:
        assert request.TokenType == "kbs"
        self.calls += 1
        self.refused += context.metadata.get("cguest-refused-token", [])
        if self.refusal is not None:
            raise self.refusal
        body = session_to_aa_json(session(f"token-{self.calls}"))
        return aa.GetTokenResponse(Token=body.reveal())

    def tables(self) -> list[ServiceTable]:
        method = Method(aa.GetTokenRequest, aa.GetTokenResponse, self.get_token)
        return [ServiceTable(services.ATTESTATION_AGENT, {"GetToken": method})]


def session(name: str, seconds: float = 300.0) -> AttestedSession:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    ends = int(time.time() + seconds)
    token = f"{part({'alg': 'ES256'})}.{part({'exp': ends, 'name': name})}.c2ln"
    return AttestedSession(Secret(token), TeeKey.generate(TeeKeyAlgorithm.EC_P256), float(ends))


async def test_sessions_are_asked_for_once_and_renewed_when_refused(tmp_path: Path) -> None:
    agent, path = FakeAgent(), tmp_path / "aa.sock"
    async with serve(agent.tables(), path):
        source = AgentSessionSource(UnixAddress(str(path)))
        first = await asyncio.gather(*(source.session() for _ in range(10)))
        assert agent.calls == 1
        assert len({s.token_id for s in first}) == 1
        renewed = await asyncio.gather(*(source.session(refused=first[0]) for _ in range(5)))
        assert agent.calls == 2
        assert len({s.token_id for s in renewed}) == 1
        assert agent.refused == [first[0].token_id]
        # Somebody who comes late with the old one gets the new one.
        assert (await source.session(refused=first[0])).token_id == renewed[0].token_id
        await source.aclose()


async def test_a_session_about_to_end_is_not_used(tmp_path: Path) -> None:
    agent, path = FakeAgent(), tmp_path / "aa.sock"
    now = time.time()
    async with serve(agent.tables(), path):
        source = AgentSessionSource(UnixAddress(str(path)), clock=lambda: now)
        await source.session()
        now += 298
        await source.session()
        assert agent.calls == 2
        await source.aclose()


async def test_a_restarted_agent_is_found_again(tmp_path: Path) -> None:
    agent, path = FakeAgent(), tmp_path / "aa.sock"
    source = AgentSessionSource(UnixAddress(str(path)))
    async with serve(agent.tables(), path):
        first = await source.session()
    async with serve(agent.tables(), path):
        second = await source.session(refused=first)
    assert first.token_id != second.token_id
    with pytest.raises(AgentUnreachableError) as caught:
        await source.session(refused=second)
    assert str(path) in str(caught.value)
    assert "aa.aa_socket" in caught.value.hint
    await source.aclose()


async def test_an_agent_that_refuses_is_quoted(tmp_path: Path) -> None:
    agent, path = FakeAgent(), tmp_path / "aa.sock"
    agent.refusal = StatusError(Code.INTERNAL, "[ERROR:attestation-agent] AA-KBC get token failed")
    async with serve(agent.tables(), path):
        source = AgentSessionSource(UnixAddress(str(path)))
        with pytest.raises(AgentRefusedError, match="AA-KBC get token failed"):
            await source.session()
        await source.aclose()
