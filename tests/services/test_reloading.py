"""A configuration that is read again takes over as a whole, or nothing of it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from agent.compose import RunningAgent
from agent.serving import agent_part
from cdh.compose import RunningHub
from cguestd.config import CguestdConfig
from cguestd.reloading import Reloader, Rereading
from lifecycle import Readiness, SettingsError
from lifecycle.log_filter import LogConfig
from lifecycle.sources import Settings
from rest.config import RestConfig
from serving.supervisor import Part, Supervised, Supervisor
from tests.services.test_supervised_guest import sample_agent


@dataclass
class OneAgent:
    """A process in which only an agent runs."""

    agents: Supervised[RunningAgent]
    hubs: Supervised[RunningHub] | None = None

    def agent_part(self, config: CguestdConfig) -> Part[RunningAgent]:
        return agent_part(config.agent)

    def hub_part(self, config: CguestdConfig) -> Part[RunningHub] | None:
        return None


@dataclass
class Rig:
    """What is read, and what was told to the process."""

    config: CguestdConfig
    reloader: Reloader
    agents: Supervised[RunningAgent]
    applied: list[CguestdConfig] = field(default_factory=list)

    async def reload(self, load: Callable[[], CguestdConfig]) -> None:
        def read() -> Settings[CguestdConfig]:
            return Settings(load())

        def apply(settings: Settings[CguestdConfig]) -> None:
            self.applied.append(settings.value)

        await self.reloader.reload(Rereading(read, apply))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    config = CguestdConfig(agent=sample_agent(tmp_path))
    async with Supervisor() as supervisor:
        agents = await supervisor.start(agent_part(config.agent))
        yield Rig(config, Reloader(config, OneAgent(agents), Readiness({})), agents)


def louder(config: CguestdConfig) -> CguestdConfig:
    return msgspec.structs.replace(config, log=LogConfig(level="debug"))


def without_tee(config: CguestdConfig) -> CguestdConfig:
    tee = msgspec.structs.replace(config.agent.tee, allow_sample=False)
    agent = msgspec.structs.replace(config.agent, tee=tee)
    return msgspec.structs.replace(config, agent=agent)


async def test_what_took_over_is_applied_to_the_process(rig: Rig) -> None:
    new = louder(msgspec.structs.replace(rig.config, rest=RestConfig(bind="127.0.0.1:1")))
    await rig.reload(lambda: new)
    assert rig.applied == [new]
    assert rig.reloader.counts == {"ok": 1, "refused": 0}


async def test_of_a_configuration_that_cannot_be_opened_nothing_is_applied(rig: Rig) -> None:
    await rig.reload(lambda: louder(without_tee(rig.config)))
    assert rig.applied == []
    assert rig.reloader.counts == {"ok": 0, "refused": 1}
    assert rig.agents.running
    await rig.reload(lambda: louder(rig.config))
    assert rig.applied == [louder(rig.config)]


async def test_of_a_configuration_that_cannot_be_read_nothing_is_applied(rig: Rig) -> None:
    def fail() -> CguestdConfig:
        raise SettingsError("agent", "not a table")

    await rig.reload(fail)
    assert rig.applied == []
    assert rig.reloader.counts == {"ok": 0, "refused": 1}
