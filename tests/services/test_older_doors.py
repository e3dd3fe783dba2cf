"""The agent's sockets of the 0.8 era, as image-rs in kata-agent called them, and old methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from agent.attestation import AttestationAgent, MeasurementSettings
from agent.config import AgentConfig, KbsConfig, TokenConfigs
from agent.kbs_evidence import AgentEvidence
from agent.kbs_sessions import open_kbs_sessions
from agent.older_doors import open_older_doors
from agent.sample import SampleAttester
from agent.service import AgentServicer
from agent.tokens import TokenIssuer
from kbs import KbsError
from lifecycle import SocketError, listen_unix
from protos import attestation_agent_pb2 as aa
from protos import keyprovider_pb2, services
from protos.stubs import KeyProviderStub, OlderGetResourceStub
from protos.tables import attestation_agent_table
from serving.doors import UnixDoor
from tests.services.older_kbs import ERAS, OlderKbs, serving
from tests.services.table_server import serve
from tests.wire.keywrap_samples import (
    KEK,
    OPTIONS,
    b64,
    gcm_packet,
    older_request_for,
    reply_options,
)
from ttrpc import Client, Code, Server, StatusError

RESOURCE_FAILED = "[ERROR:attestation-agent] AA-KBC get resource failed: "
PARSE_FAILED = "[ERROR:attestation-agent] Parse request failed: "
UNWRAP_FAILED = "[ERROR:attestation-agent] AA-KBC key provider failed: "
AGENT = "[ERROR:attestation-agent] "


def _agent(*, log: bool = False) -> AttestationAgent:
    return AttestationAgent(SampleAttester(), MeasurementSettings(log, 17, None))


def _config(folder: Path, kbs: KbsConfig | None, **others: Any) -> AgentConfig:
    return AgentConfig(
        keyprovider_socket=f"unix://{folder}/keyprovider.sock",
        getresource_socket=f"unix://{folder}/getresource.sock",
        token_configs=TokenConfigs(kbs=kbs, **others),
    )


@dataclass(frozen=True)
class Era:
    """Clients of both sockets, and the key broker behind them."""

    kbs: OlderKbs
    resources: OlderGetResourceStub
    keys: KeyProviderStub
    keys_client: Client

    async def get(self, path: str, name: str = "cc_kbc", uri: str | None = None) -> bytes:
        uri = self.kbs.url if uri is None else uri
        reply = await self.resources.get_resource(path, kbc_name=name, kbs_uri=uri, timeout_s=20)
        return reply.Resource

    async def unwrap(self, request: bytes) -> bytes:
        reply = await self.keys.unwrap_key(request, timeout_s=20)
        return reply_options(reply.KeyProviderKeyWrapProtocolOutput)


@asynccontextmanager
async def _served(config: AgentConfig, kbs: OlderKbs) -> AsyncIterator[Era]:
    async with AsyncExitStack() as stack:
        evidence = AgentEvidence(_agent())
        sessions = await open_kbs_sessions(config.token_configs, evidence, None, stack)
        keys, resources = await open_older_doors(config, sessions, stack)
        clients = []
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for door in (keys, resources):
            assert isinstance(door.address, UnixDoor)
            listening = stack.enter_context(await listen_unix(door.address.unix))
            task = group.create_task(Server(door.tables).serve(listening.sock))
            stack.callback(task.cancel)
            path = door.address.unix.path
            clients.append(await stack.enter_async_context(await Client.connect(path)))
        yield Era(kbs, OlderGetResourceStub(clients[1]), KeyProviderStub(clients[0]), clients[0])


@pytest.fixture(params=["0.1.0 late", "0.4.0"])
async def era(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Era]:
    """Today's key broker, and one of that time."""
    async with serving(ERAS[request.param]) as kbs:
        kbs.resources["default/image-kek/test-1"] = KEK
        kbs.resources["default/security-policy/test"] = b"{}"
        config = _config(tmp_path, KbsConfig(kbs.url, start_spread_seconds=0))
        async with _served(config, kbs) as era:
            yield era


@pytest.mark.parametrize("uri", [None, "null", "", "http://localhost", "bare", "slash"])
async def test_a_resource_of_the_configured_broker(era: Era, uri: str | None) -> None:
    named = {"bare": era.kbs.url.removeprefix("http://"), "slash": f"{era.kbs.url}/"}
    uri = named.get(uri or "", uri)
    assert await era.get("/default/security-policy/test", uri=uri) == b"{}"


async def test_a_whole_uri_is_taken_as_well(era: Era) -> None:
    assert await era.get("kbs:///default/security-policy/test") == b"{}"


@pytest.mark.parametrize(
    ("path", "name", "uri", "says"),
    [
        ("/default/a/b", "eaa_kbc", None, "key broker client 'eaa_kbc' is not served, only cc_kbc"),
        ("/default/a/b", "", None, "key broker client '' is not served"),
        ("/default/a/b", "cc_kbc", "https://other.example.org", "'https://other.example.org'"),
        ("/default/a/b", "cc_kbc", "http://[::1", "no session with 'http://[::1'"),
        ("/default/a", "cc_kbc", None, "expected repository/type/tag"),
        ("default/a/b", "cc_kbc", None, "it has no scheme"),
        ("", "cc_kbc", None, ""),
        ("/default/../../x", "cc_kbc", None, ""),
    ],
)
async def test_a_resource_is_refused_by_name(
    era: Era, path: str, name: str, uri: str | None, says: str
) -> None:
    with pytest.raises(StatusError) as caught:
        await era.get(path, name, uri)
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.startswith(RESOURCE_FAILED)
    assert says in caught.value.message
    assert not era.kbs.auths  # nobody was asked


async def test_a_layer_key(era: Era) -> None:
    for params in (f"cc_kbc::{era.kbs.url}", "cc_kbc::null"):
        assert await era.unwrap(older_request_for(gcm_packet(), params)) == OPTIONS


@pytest.mark.parametrize(
    ("request_bytes", "text"),
    [
        (b"", f"{PARSE_FAILED}unwrap request, envelope"),
        (older_request_for(gcm_packet(), op="keywrap"), f"{PARSE_FAILED}unwrap request, op"),
        (older_request_for(gcm_packet(), "cc_kbc"), f"{PARSE_FAILED}unwrap request, dc.Param"),
        (older_request_for({"kid": 1}, "cc_kbc::null"), f"{UNWRAP_FAILED}annotation packet, JSON"),
        (
            older_request_for(gcm_packet(), "x_kbc::null"),
            f"{UNWRAP_FAILED}key broker client 'x_kbc' is not served",
        ),
        (
            older_request_for(gcm_packet(), "cc_kbc::http://other.example.org"),
            f"{UNWRAP_FAILED}no session with 'http://other.example.org'",
        ),
        (
            older_request_for(gcm_packet(kid="kbs:///default/key/1"), "cc_kbc::null"),
            f"{UNWRAP_FAILED}key encryption key 'kbs:///default/key/1': expected 32 bytes, got 10",
        ),
        (
            older_request_for(gcm_packet(kek=b"k" * 32), "cc_kbc::null"),
            f"{UNWRAP_FAILED}wrapped key does not open",
        ),
    ],
    ids=["nothing", "op", "no uri", "packet", "kbc", "kbs", "short key", "wrong key"],
)
async def test_a_layer_key_is_refused(era: Era, request_bytes: bytes, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        await era.unwrap(request_bytes)
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.startswith(text)
    assert b64(KEK) not in caught.value.message


async def test_wrapping_is_unimplemented_in_those_words(era: Era) -> None:
    with pytest.raises(StatusError) as caught:
        await era.keys_client.call(
            services.KEY_PROVIDER,
            "WrapKey",
            keyprovider_pb2.KeyProviderKeyWrapProtocolInput(),
            keyprovider_pb2.KeyProviderKeyWrapProtocolOutput,
        )
    assert caught.value.code is Code.UNIMPLEMENTED
    assert caught.value.message == "WrapKey API of attestation-agent is unimplemented!"


async def test_further_brokers_are_chosen_by_their_address(tmp_path: Path) -> None:
    async with serving(ERAS["0.4.0"]) as first, serving(ERAS["0.4.0"]) as second:
        second.resources["default/only/second"] = b"2"
        config = _config(
            tmp_path,
            KbsConfig(first.url, start_spread_seconds=0),
            others=(KbsConfig(second.url, start_spread_seconds=0),),
        )
        async with _served(config, first) as era:
            assert await era.get("/default/only/second", uri=second.url) == b"2"
        assert not first.auths


async def test_a_replica_stands_in(tmp_path: Path) -> None:
    async with serving(ERAS["0.4.0"]) as kbs:
        away = "http://127.0.0.1:9"
        config = _config(tmp_path, KbsConfig(away, urls=(kbs.url,), start_spread_seconds=0))
        async with _served(config, kbs) as era:
            assert await era.get("/default/key/1", uri=away) == b"the secret"


async def test_without_a_broker_that_is_said(tmp_path: Path) -> None:
    async with _served(_config(tmp_path, None), OlderKbs(ERAS["0.4.0"], "null")) as era:
        with pytest.raises(StatusError) as caught:
            await era.get("/default/key/1")
    assert "the agent is configured for no key broker" in caught.value.message


async def _doors(config: AgentConfig) -> list[tuple[str, list[str]]]:
    async with AsyncExitStack() as stack:
        sessions = await open_kbs_sessions(config.token_configs, _NoEvidence(), None, stack)
        doors = await open_older_doors(config, sessions, stack)
        return [(str(door.address), [table.name for table in door.tables]) for door in doors]


class _NoEvidence(AgentEvidence):
    def __init__(self) -> None:
        super().__init__(_agent())


async def test_doors_are_those_that_are_configured() -> None:
    keys, resources = services.KEY_PROVIDER, services.GET_RESOURCE_V0_8
    assert await _doors(AgentConfig()) == []
    one = AgentConfig(keyprovider_socket="unix:///k")
    assert await _doors(one) == [("unix:///k", [keys])]
    both = AgentConfig(keyprovider_socket="unix:///x", getresource_socket="unix:///x")
    assert await _doors(both) == [("unix:///x", [keys, resources])]
    grpc = AgentConfig(getresource_socket="127.0.0.1:50001")
    assert await _doors(grpc) == [("127.0.0.1:50001", [resources])]
    with pytest.raises(SocketError):
        await _doors(AgentConfig(keyprovider_socket="/no/scheme"))


# --- methods and messages of past releases on the agent's own socket ------------------------------


@asynccontextmanager
async def _agent_client(folder: Path, agent: AttestationAgent) -> AsyncIterator[Client]:
    path = folder / "agent.sock"
    tables = [attestation_agent_table(AgentServicer(agent, TokenIssuer(_NoSessions())))]
    async with serve(tables, path), await Client.connect(str(path)) as client:
        yield client


class _NoSessions:
    async def session(self, refused: object = None) -> Any:
        raise KbsError("no KBS is configured", attempted="attesting")


async def _status(client: Client, method: str, request: Message) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await client.call(
            services.ATTESTATION_AGENT, method, request, aa.ExtendRuntimeMeasurementResponse
        )
    return caught.value


@pytest.mark.parametrize("log", [False, True], ids=["log off", "log on"])
async def test_events_of_v0_9_are_refused_and_not_taken_for_measured(
    tmp_path: Path, log: bool
) -> None:
    # {1: Events repeated bytes, 2: RegisterIndex varint}
    older = aa.ExtendRuntimeMeasurementRequest()
    older.MergeFromString(b"\x0a\x05event\x0a\x05other\x10\x11")
    async with _agent_client(tmp_path, _agent(log=log)) as client:
        error = await _status(client, "ExtendRuntimeMeasurement", older)
    assert error.code is Code.INTERNAL
    assert error.message.startswith(f"{AGENT}AA extend runtime measurement failed: event operation")
    assert "guest-components v0.9" in error.message


async def test_events_of_v0_9_that_are_no_text(tmp_path: Path) -> None:
    # A message of another type, with bytes in field 1: what stands in a binary event log.
    older = aa.GetEvidenceRequest(RuntimeData=b"\xff\xfe")
    async with _agent_client(tmp_path, _agent()) as client:
        error = await _status(client, "ExtendRuntimeMeasurement", older)
    assert error.code is Code.UNKNOWN
    assert error.message.startswith("ttrpc err: ")


@pytest.mark.parametrize("method", ["CheckInitData", "UpdateConfiguration"])
async def test_methods_of_v0_9_are_gone(tmp_path: Path, method: str) -> None:
    async with _agent_client(tmp_path, _agent()) as client:
        error = await _status(client, method, aa.BindInitDataRequest(Digest=bytes(48)))
    assert (error.code, error.message) == (Code.UNIMPLEMENTED, f"{method} method")


async def test_binding_init_data_is_not_for_ttrpc(tmp_path: Path) -> None:
    async with _agent_client(tmp_path, _agent()) as client:
        error = await _status(client, "BindInitData", aa.BindInitDataRequest(Digest=bytes(48)))
    assert error.code is Code.NOT_FOUND
    path = f"/{services.ATTESTATION_AGENT}/BindInitData"
    assert error.message == f"{path} is not supported"


@pytest.mark.parametrize(
    ("method", "request_message", "text"),
    [
        ("GetToken", aa.GetTokenRequest(TokenType="kbs"), "AA-KBC get token failed: "),
        ("GetToken", aa.GetTokenRequest(TokenType="x"), "AA-KBC get token failed: "),
        ("GetEvidence", aa.GetEvidenceRequest(RuntimeData=bytes(65)), "AA-KBC get evidence failed"),
        (
            "GetAdditionalEvidence",
            aa.GetAdditionalEvidenceRequest(RuntimeData=bytes(65)),
            "AA-KBC get evidence failed: ",
        ),
    ],
)
async def test_texts_begin_as_the_reference(
    tmp_path: Path, method: str, request_message: Message, text: str
) -> None:
    async with _agent_client(tmp_path, _agent()) as client:
        error = await _status(client, method, request_message)
    assert error.code is Code.INTERNAL
    assert error.message.startswith(AGENT + text)
