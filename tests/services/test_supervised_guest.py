"""Agent, mounts and hub as parts of one process: what survives when one of them is opened again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import AgentConfig, TeeConfig
from agent.serving import agent_part
from cdh.config import CdhConfig
from cdh.errors import AgentUnreachableError
from cdh.mounts.supervisor import MountState, MountSupervisor
from cdh.serving import hub_part, mounts_part
from cguestd.config import CguestdConfig
from cguestd.metrics import process_families
from cguestd.metrics_text import render
from cguestd.present_backends import PresentAttestation, PresentResources
from cguestd.reloading import keep_fixed
from cguestd.sessions import PresentSessions, sessions_by_url
from kbs import KbsError
from rest.config import RestConfig
from rest.errors import BackendError
from serving.supervisor import Part, Supervisor
from tests.services.scripted_mount import FAKE, launch_at

LIMIT_SECONDS = 30


def sample_agent(folder: Path) -> AgentConfig:
    absent = str(folder / "absent")
    tee = TeeConfig(
        report_path=absent, measurements_path=absent, ccel_path=absent,
        attest_conf_path=absent, allow_sample=True,
    )  # fmt: skip
    return AgentConfig(tee=tee)


def scripted_mounts(state: Path) -> Part[MountSupervisor]:
    state.mkdir()

    @asynccontextmanager
    async def opening() -> AsyncIterator[MountSupervisor]:
        mounts = MountSupervisor(command=(sys.executable, str(FAKE), "serve", str(state)))
        try:
            yield mounts
        finally:
            await mounts.close()

    return replace(mounts_part(CdhConfig()), open=opening)


@pytest.mark.real
async def test_a_mount_outlives_the_hub_and_a_hub_does_not_outlive_the_mounts(
    tmp_path: Path,
) -> None:
    target = tmp_path / "made" / "here"
    async with asyncio.timeout(LIMIT_SECONDS), Supervisor() as supervisor:
        mounts = await supervisor.start(scripted_mounts(tmp_path / "state"))
        hub = await supervisor.start(hub_part(CdhConfig(), mounts.present))
        await mounts.present.require().mount(launch_at(target))
        (before,) = hub.present.require().hub.list_mounts()
        assert before.state is MountState.MOUNTED

        await hub.replace(hub_part(CdhConfig(), mounts.present))
        (after,) = hub.present.require().hub.list_mounts()
        assert after == before

        held = hub.present.require()
        await mounts.replace(scripted_mounts(tmp_path / "other state"))
        await hub.present.until_gone(held)
        assert (await hub.present.arrival()).hub.list_mounts() == ()
        assert hub.restarts == 1
    assert not target.exists()


async def test_the_hub_asks_the_agent_that_runs_now(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        agent = await supervisor.start(agent_part(sample_agent(tmp_path)))
        agent.present.wait_seconds = 0
        assert sessions_by_url(agent.present) == {}
        with pytest.raises(KbsError, match="no KBS is configured"):
            await PresentSessions(agent.present).session()
        with pytest.raises(KbsError, match=r"no longer configured for 'kbs\.example'"):
            await PresentSessions(agent.present, "https://kbs.example").session()
        attestation = PresentAttestation(agent.present)
        assert await attestation.tee() == "sample"
        assert await attestation.is_reachable()
        assert 'cguest_part_running{part="agent"} 1' in metrics_of(supervisor)
    assert 'cguest_part_running{part="agent"} 0' in metrics_of(supervisor)
    with pytest.raises(AgentUnreachableError, match="the attestation agent is not available"):
        await PresentSessions(agent.present).session()
    assert not await attestation.is_reachable()
    with pytest.raises(BackendError, match="the attestation agent is not available"):
        await attestation.tee()


async def test_rest_asks_the_hub_that_runs_now() -> None:
    async with Supervisor() as supervisor:
        mounts = await supervisor.start(mounts_part(CdhConfig()))
        hub = await supervisor.start(hub_part(CdhConfig(), mounts.present))
        resources = PresentResources(hub.present)
        hub.present.wait_seconds = 0
        assert await resources.is_reachable()
        with pytest.raises(BackendError, match="no key broker is configured"):
            await resources.get_resource("kbs:///a/b/c")
    with pytest.raises(BackendError, match="the data hub is not available"):
        await resources.get_resource("kbs:///a/b/c")


def metrics_of(supervisor: Supervisor) -> str:
    return render(process_families(supervisor.parts, {"ok": 0, "refused": 0}))


def test_what_is_settled_at_the_start_stays_and_is_named() -> None:
    old = CguestdConfig(agent=AgentConfig(socket="unix:///a"), cdh=CdhConfig(socket="unix:///h"))
    new = CguestdConfig(
        agent=AgentConfig(socket="unix:///b"),
        cdh=CdhConfig(socket="unix:///h", skip_sealed_secret_verification=True),
        rest=RestConfig(bind="127.0.0.1:1"),
    )
    kept, different = keep_fixed(old, new)
    assert different == ["agent.socket", "rest"]
    assert kept.agent == old.agent
    assert kept.rest == old.rest
    assert kept.cdh == new.cdh
    assert keep_fixed(old, old) == (old, [])
