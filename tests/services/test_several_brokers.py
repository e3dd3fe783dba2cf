"""Two key brokers and a hub: over the agent's socket and in one process, with real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.config import KbsConfig, TokenConfigs
from agent.kbs_sessions import KbsSessions, open_kbs_sessions
from agent.service import KBS_URL_KEY
from agent.tokens import TokenIssuer
from cdh.agent_client import KBS_URL_KEY as HUB_KEY
from cdh.compose import RunningHub, open_hub
from cdh.config import AgentSection, CdhConfig, KbcSection, NamedKbc
from cdh.errors import ConfigurationRefusedError
from kbs import NoKbsAnsweredError, PolicyDeniedError, UnknownKbsError
from protos import attestation_agent_pb2 as aa
from protos import services
from tests.services.fake_kbs import FakeKbs, answer, running
from tests.services.kbs_client_parts import Attester
from tests.services.table_server import serve
from ttrpc import CallContext, Method, ServiceTable

URI = "kbs:///default/key/1"


@pytest.fixture(params=["one process", "agent socket"])
def by_socket(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "agent socket")


@asynccontextmanager
async def _agent_socket(sessions: KbsSessions, folder: Path) -> AsyncIterator[str]:
    tokens = TokenIssuer(sessions.primary, by_url=sessions.by_url)

    async def get_token(_request: aa.GetTokenRequest, context: CallContext) -> aa.GetTokenResponse:
        urls = context.metadata.get(KBS_URL_KEY, ())
        assert KBS_URL_KEY == HUB_KEY
        token = await tokens.token("kbs", None, urls[0] if urls else None)
        return aa.GetTokenResponse(Token=token.reveal())

    methods = {"GetToken": Method(aa.GetTokenRequest, aa.GetTokenResponse, get_token)}
    path = folder / "aa.sock"
    async with serve([ServiceTable(services.ATTESTATION_AGENT, methods)], path):
        yield f"unix://{path}"


@asynccontextmanager
async def _hub(
    tokens: TokenConfigs, kbc: KbcSection, folder: Path, by_socket: bool
) -> AsyncIterator[RunningHub]:
    async with AsyncExitStack() as stack:
        sessions = await open_kbs_sessions(tokens, Attester(), None, stack)
        config = CdhConfig(kbc=kbc, skip_sealed_secret_verification=True)
        if by_socket:
            socket = await stack.enter_async_context(_agent_socket(sessions, folder))
            config = msgspec.structs.replace(config, aa=AgentSection(aa_socket=socket))
            opened = open_hub(config)
        else:
            opened = open_hub(config, sessions.primary, sessions.by_url)
        yield await stack.enter_async_context(opened)


@asynccontextmanager
async def _two() -> AsyncIterator[tuple[FakeKbs, FakeKbs]]:
    async with running() as first, running() as second:
        first.resources["default/key/1"] = b"of the first"
        second.resources["default/key/1"] = b"of the second"
        yield first, second


def _kbs(url: str, *urls: str) -> KbsConfig:
    return KbsConfig(url, urls, start_spread_seconds=0)


async def test_replicas_stand_in_for_each_other(tmp_path: Path, by_socket: bool) -> None:
    async with _two() as (first, second):
        tokens = TokenConfigs(_kbs(first.url, second.url))
        kbc = KbcSection(url=first.url, urls=(second.url,))
        async with _hub(tokens, kbc, tmp_path, by_socket) as running_hub:
            assert (await running_hub.hub.get_resource(URI)).reveal() == b"of the first"
            assert second.seen == []
            first.play("resource", *[answer(503)] * 2)
            assert (await running_hub.hub.get_resource(URI)).reveal() == b"of the second"
            assert len(first.tokens) == len(second.tokens) == 1
            second.play("resource", *[answer(503)] * 2)
            first.denied.add("default/key/1")
            with pytest.raises(PolicyDeniedError):
                await running_hub.hub.get_resource(URI)


async def test_an_address_where_nobody_attests(tmp_path: Path, by_socket: bool) -> None:
    async with _two() as (first, second):
        tokens = TokenConfigs(_kbs(first.url, second.url))
        kbc = KbcSection(url=first.url, urls=(second.url,))
        async with _hub(tokens, kbc, tmp_path, by_socket) as running_hub:
            first.play("auth", *[answer(503)] * 4)
            assert (await running_hub.hub.get_resource(URI)).reveal() == b"of the second"
            second.play("resource", *[answer(502)] * 2)
            with pytest.raises(NoKbsAnsweredError):  # the first is still held by its agent
                await running_hub.hub.get_resource(URI)


async def test_the_host_of_the_uri_chooses(tmp_path: Path, by_socket: bool) -> None:
    async with _two() as (first, second):
        tokens = TokenConfigs(_kbs(first.url), others=(_kbs(second.url),))
        kbc = KbcSection(url=first.url, named=(NamedKbc("models", second.url),))
        async with _hub(tokens, kbc, tmp_path, by_socket) as running_hub:
            get = running_hub.hub.get_resource
            assert (await get(URI)).reveal() == b"of the first"
            assert (await get("kbs://models/default/key/1")).reveal() == b"of the second"
            address = second.url.removeprefix("http://")
            assert (await get(f"kbs://{address}/default/key/1")).reveal() == b"of the second"
            with pytest.raises(UnknownKbsError):
                await get("kbs://stranger/default/key/1")
            assert len(first.tokens) == len(second.tokens) == 1


async def test_a_broker_the_agent_does_not_know_is_refused_at_start(tmp_path: Path) -> None:
    kbc = KbcSection(url="http://a", named=(NamedKbc("b", "http://b"),))
    with pytest.raises(ConfigurationRefusedError, match="not configured for the key broker 'b'"):
        async with _hub(TokenConfigs(_kbs("http://a")), kbc, tmp_path, by_socket=False):
            pass


@pytest.mark.parametrize(
    ("kbc", "words"),
    [
        (KbcSection(urls=("http://b",)), "further key brokers"),
        (KbcSection(url="http://a", urls=tuple(f"http://{n}" for n in range(9))), "more than 8"),
        (KbcSection(url="http://a", named=(NamedKbc("b", "http://b"),) * 2), "twice"),
        (KbcSection(url="http://a", named=(NamedKbc("b/c", "http://b"),)), "form of a host"),
    ],
    ids=["no first", "too many", "twice", "name"],
)
def test_configurations_that_are_refused(kbc: KbcSection, words: str) -> None:
    with pytest.raises(ConfigurationRefusedError, match=words):
        CdhConfig(kbc=kbc).check()
