"""Passport: the agent attests to one KBS, the hub fetches from another that trusts its signer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.compose import open_agent
from agent.config import AgentConfig, KbsConfig, TeeConfig, TokenConfigs
from cdh.compose import open_hub
from cdh.config import AgentSection, CdhConfig, KbcSection
from cdh.hub import ConfidentialDataHub
from kbs import TokenRefusedError
from lifecycle import UnixAddress, listen_unix
from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from mocktee.kbs.signer import SignerIdentity
from mocktee.pki import MockPki
from ttrpc import Server

PKI = MockPki.create()
SECRET = b"held by the second KBS only"


@dataclass(frozen=True)
class Brokers:
    """``first`` attests and holds nothing, ``second`` holds the secret."""

    first: MockKbs
    second: MockKbs


@asynccontextmanager
async def brokers(folder: Path, *, trusting: bool) -> AsyncIterator[Brokers]:
    identity = SignerIdentity.create()
    anchors = identity.chain[-1:] if trusting else ()
    attesting = KbsOptions(tls=False, identity=identity)
    holding = KbsOptions(tls=False, trusted_certificates=anchors)
    async with (
        MockKbs.start(folder / "first", PKI, attesting) as first,
        MockKbs.start(folder / "second", PKI, holding) as second,
    ):
        second.put_resource("default/key/1", SECRET)
        second.set_resource_policy(shipped_policy("allow_every_path"))
        yield Brokers(first, second)


@asynccontextmanager
async def guest(
    folder: Path, kbs: Brokers, *, one_process: bool
) -> AsyncIterator[ConfidentialDataHub]:
    """Agent and hub, joined by a function call or by the agent's socket."""
    socket = f"unix://{folder}/agent.sock"
    config = AgentConfig(
        token_configs=TokenConfigs(kbs=KbsConfig(kbs.first.url, start_spread_seconds=0)),
        tee=TeeConfig(report_path=str(folder / "no/report"), allow_sample=True),
    )
    hub_config = CdhConfig(aa=AgentSection(aa_socket=socket), kbc=KbcSection(url=kbs.second.url))
    async with open_agent(config) as running, asyncio.TaskGroup() as group:
        with await listen_unix(UnixAddress.parse(socket)) as listening:
            serving = group.create_task(Server(running.tables).serve(listening.sock))
            async with open_hub(hub_config, running.sessions if one_process else None) as hub:
                yield hub.hub
            serving.cancel()


@pytest.mark.parametrize("one_process", [True, False], ids=["one process", "two"])
async def test_the_hub_fetches_with_the_token_of_another_kbs(
    tmp_path: Path, one_process: bool
) -> None:
    async with (
        brokers(tmp_path, trusting=True) as kbs,
        guest(tmp_path, kbs, one_process=one_process) as hub,
    ):
        for _ in range(2):
            assert (await hub.get_resource("kbs:///default/key/1")).reveal() == SECRET
        assert kbs.first.counters.attest_accepted == 1
        assert kbs.first.counters.resource_requests == 0
        assert kbs.second.counters.auth == 0


@pytest.mark.parametrize("one_process", [True, False], ids=["one process", "two"])
async def test_a_token_that_is_not_trusted_is_renewed_once_where_it_came_from(
    tmp_path: Path, one_process: bool
) -> None:
    async with (
        brokers(tmp_path, trusting=False) as kbs,
        guest(tmp_path, kbs, one_process=one_process) as hub,
    ):
        with pytest.raises(TokenRefusedError):
            await hub.get_resource("kbs:///default/key/1")
        assert kbs.first.counters.attest_accepted == 2
        assert kbs.second.counters.auth == 0
