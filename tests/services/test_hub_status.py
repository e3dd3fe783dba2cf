"""The hub's status and the watch over real sockets, with a broker that goes away and comes back."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.config import KbsConfig, TokenConfigs
from agent.kbs_sessions import open_kbs_sessions
from cdh.compose import RunningHub, open_hub
from cdh.config import CdhConfig, KbcSection
from cguest.commands.attestation import show_status
from cguest.commands.watching import watch
from cguest.sockets import Targets, resolve
from kbs import KbsError
from lifecycle import UnixAddress, listen_unix
from protos.stubs import GetResourceStub, HubStatusStub, SealedSecretStub
from tests.services.fake_kbs import FakeKbs, answer, running
from tests.services.kbs_client_parts import Attester
from ttrpc import Client, Server, StatusError

URI = "kbs:///default/key/1"


@dataclass
class Rig:
    kbs: FakeKbs
    hub: RunningHub
    socket: str
    status: HubStatusStub


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        kbs = await stack.enter_async_context(running())
        tokens = TokenConfigs(KbsConfig(kbs.url, start_spread_seconds=0))
        sessions = await open_kbs_sessions(tokens, Attester(), None, stack)
        config = CdhConfig(
            kbc=KbcSection(url=kbs.url, serve_stale_seconds=600),
            skip_sealed_secret_verification=True,
        )
        hub = await stack.enter_async_context(open_hub(config, sessions.primary, sessions.by_url))
        address = UnixAddress(str(tmp_path / "cdh.sock"))
        listener = stack.enter_context(await listen_unix(address))
        serving = asyncio.create_task(Server(hub.tables).serve(listener.sock))
        client = await stack.enter_async_context(await Client.connect(address.path, timeout_s=5))
        yield Rig(kbs, hub, address.path, HubStatusStub(client))
        serving.cancel()
        await asyncio.wait([serving])


async def test_status_says_what_is_kept_and_who_is_away(rig: Rig) -> None:
    before = await rig.status.get_status()
    assert before.source == "cc_kbc"
    assert before.serve_stale_seconds == 600
    assert [list(broker.urls) for broker in before.brokers] == [[rig.kbs.url]]
    assert before.brokers[0].away_since_unix == 0
    await rig.hub.hub.get_resource(URI)
    rig.kbs.play("resource", answer(503, Retry_After="3600"))
    assert (await rig.hub.hub.get_resource(URI)).reveal() == b"the secret"
    during = (await rig.status.get_status()).brokers[0]
    assert (during.kept_secrets, during.stale_served) == (1, 1)
    assert during.away_since_unix > 0
    assert "503" in during.last_error
    assert b"the secret" not in during.SerializeToString()
    await rig.hub.hub.get_resource(URI)
    assert (await rig.status.get_status()).brokers[0].away_since_unix == 0


async def test_a_denial_ends_it(rig: Rig) -> None:
    await rig.hub.hub.get_resource(URI)
    rig.kbs.denied.add("default/key/1")
    with pytest.raises(KbsError):
        await rig.hub.hub.get_resource(URI)
    rig.kbs.play("resource", answer(503, Retry_After="3600"))
    with pytest.raises(KbsError):
        await rig.hub.hub.get_resource(URI)


async def test_the_command_watches(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    address = UnixAddress(rig.socket)
    targets = Targets(agent=address, hub=address, report_path="", kbs_url=None)
    args = argparse.Namespace(uri=URI, interval=0.1, count=2, timeout=10.0, output_format="json")
    watching = asyncio.create_task(watch(args, targets))
    while "GET /kbs/v0/resource/default/key/1" not in rig.kbs.targets():
        await asyncio.sleep(0.01)
    rig.kbs.resources["default/key/1"] = b"rotated"
    await watching
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines] == ["present", "changed"]
    assert "rotated" not in str(lines)


async def test_a_secret_that_was_not_opened_is_counted_and_explained(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    before = await rig.status.get_status()
    assert (before.unseal_failures, before.last_unseal_failure) == (0, "")
    async with await Client.connect(rig.socket, timeout_s=5) as client:
        with pytest.raises(StatusError):
            await SealedSecretStub(client).unseal_secret(b"sealed.no.such.secret")
    after = await rig.status.get_status()
    assert after.unseal_failures == 1
    assert after.last_unseal_failure.startswith("sealed secret, payload:")
    assert after.last_unseal_failure_unix > 0
    shown = await show_status(
        argparse.Namespace(timeout=5.0),
        resolve(None, "unix:///nonexistent", f"unix://{rig.socket}"),
    )
    assert "sealed secret, payload:" in str(shown.data["last_unseal_failure"])
    (line,) = [
        said for text in capsys.readouterr().err.splitlines()
        if (said := json.loads(text))["event"] == "request failed"
    ]  # fmt: skip
    assert line["level"] == "error"
    assert "starts the container with the sealed text" in line["consequence"]


async def test_what_is_sent_in_place_of_a_uri_is_not_logged(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    async with await Client.connect(rig.socket, timeout_s=5) as client:
        with pytest.raises(StatusError, match="hunter2"):
            await GetResourceStub(client).get_resource("hunter2")
    logged = capsys.readouterr().err
    assert "no scheme" in logged and "hunter2" not in logged
