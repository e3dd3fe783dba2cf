"""What the guest hook reports, over a real socket: kept, bounded, logged, shown to people."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cdh.compose import open_hub
from cdh.config import CdhConfig
from cdh.hook_reports import KEPT, MAX_REASON
from cguest.commands.attestation import show_status
from cguest.sockets import Targets
from lifecycle import UnixAddress, listen_unix
from protos.stubs import ContainerStub, HubStatusStub
from ttrpc import Client, Code, Server, StatusError


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(open_hub(CdhConfig()))
        address = UnixAddress(str(tmp_path / "cdh.sock"))
        listener = stack.enter_context(await listen_unix(address))
        serving = asyncio.create_task(Server(hub.tables).serve(listener.sock))
        yield address.path
        serving.cancel()
        await asyncio.wait([serving])


async def test_the_last_refusals_are_kept(socket: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with await Client.connect(socket, timeout_s=5) as client:
        for number in range(KEPT + 3):
            await ContainerStub(client).report_refusal(f"c{number}", "volume /keys", "r" * 5000)
        status = await HubStatusStub(client).get_status()
    assert [item.container_id for item in status.refusals] == [f"c{n}" for n in range(3, KEPT + 3)]
    assert all(len(item.reason) <= MAX_REASON + 1 for item in status.refusals)
    assert all(item.refused_unix > 0 for item in status.refusals)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    logged = [line for line in lines if line["event"] == "container stopped by hook"]
    assert logged[0]["container"] == "c0"
    assert logged[0]["subject"] == "volume /keys"


async def test_a_report_without_a_container_is_refused(socket: str) -> None:
    async with await Client.connect(socket, timeout_s=5) as client:
        with pytest.raises(StatusError) as caught:
            await ContainerStub(client).report_refusal("", "volume /keys", "no")
    assert caught.value.code is Code.INVALID_ARGUMENT


async def test_people_see_why_a_container_was_stopped(socket: str, tmp_path: Path) -> None:
    async with await Client.connect(socket, timeout_s=5) as client:
        await ContainerStub(client).report_refusal("web-1", "environment PASSWORD", "denied")
    nobody = UnixAddress(str(tmp_path / "no.sock"))
    targets = Targets(agent=nobody, hub=UnixAddress(socket), report_path="", kbs_url=None)
    outcome = await show_status(argparse.Namespace(timeout=5.0), targets)
    assert str(outcome.data["container stopped web-1"]).endswith("environment PASSWORD: denied")
