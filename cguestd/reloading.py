"""Reading the configuration again while serving: what may change, in which order, and what is said.

A configuration that cannot work changes nothing. Addresses stay as they are, because a connection
of kata-agent's is never made a second time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from agent.compose import RunningAgent
from cdh.compose import RunningHub
from cguestd.config import CguestdConfig
from lifecycle import Readiness, Shutdown
from lifecycle.sources import Settings
from secrecy.journal import get_logger
from serving.failure import describe
from serving.supervisor import Part, Supervised

log = get_logger("cguestd")

# What is settled when the process starts, as paths into the configuration.
FIXED: Final = (
    "agent.socket",
    "agent.keyprovider_socket",
    "agent.getresource_socket",
    "cdh.socket",
    "cdh.mounts.log_level",
    "rest",
    "metrics",
    "receipts",
)


@dataclass(frozen=True, slots=True)
class Rereading:
    """``load`` reads all sources again and may block; ``apply`` is told what has taken over.

    ``apply`` is for what belongs to the process and not to a part, as the log level does.
    """

    load: Callable[[], Settings[CguestdConfig]]
    apply: Callable[[Settings[CguestdConfig]], None]


class Reloadable(Protocol):
    """The parts that a configuration is for, as far as they run in this process."""

    @property
    def agents(self) -> Supervised[RunningAgent] | None: ...

    @property
    def hubs(self) -> Supervised[RunningHub] | None: ...

    def agent_part(self, config: CguestdConfig) -> Part[RunningAgent]: ...

    def hub_part(self, config: CguestdConfig) -> Part[RunningHub] | None: ...


def keep_fixed(old: CguestdConfig, new: CguestdConfig) -> tuple[CguestdConfig, list[str]]:
    """Return ``new`` with the fixed values of ``old``, and the names of those that differ."""
    different = [path for path in FIXED if _value(old, path) != _value(new, path)]
    for path in different:
        new = _with(new, path.split("."), _value(old, path))
    return new, different


def _value(config: object, path: str) -> object:
    for name in path.split("."):
        config = getattr(config, name)
    return config


def _with(config: Any, names: list[str], value: object) -> Any:
    first, *rest = names
    inner = _with(getattr(config, first), rest, value) if rest else value
    return msgspec.structs.replace(config, **{first: inner})


class Reloader:
    """Turns parts over to a new configuration, one reload at a time."""

    def __init__(self, config: CguestdConfig, parts: Reloadable, readiness: Readiness) -> None:
        self._config = config
        self._parts = parts
        self._readiness = readiness
        self.counts: Counter[str] = Counter(ok=0, refused=0)

    @asynccontextmanager
    async def on_hangup(self, shutdown: Shutdown, rereading: Rereading) -> AsyncIterator[None]:
        """Reload at every SIGHUP until the end of the block, which lets no reload finish."""
        shutdown.take_hangups()
        task = asyncio.create_task(self._serve(shutdown, rereading), name="reload")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _serve(self, shutdown: Shutdown, rereading: Rereading) -> None:
        while True:
            await shutdown.next_hangup()
            await self.reload(rereading)

    async def reload(self, rereading: Rereading) -> None:
        """Read the configuration and turn over what it changes.

        Raises nothing: a failure is logged, counted and told to the service manager.
        """
        self._readiness.reloading()
        try:
            settings = await asyncio.to_thread(rereading.load)
            new, different = keep_fixed(self._config, settings.value)
            await self._turn_over(new)
            rereading.apply(settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, we go on as before
            self.counts["refused"] += 1
            cause = describe(error)
            log.error("reload refused", **cause)  # noqa: TRY400
            said = f"reload refused: {cause.get('cause', cause['error'])}"
        else:
            self.counts["ok"] += 1
            log.info("reloaded")
            for path in different:
                log.warning("change needs a restart", key=path)
            said = "reloaded"
            if different:
                said += f"; a restart is needed for {', '.join(different)}"
        self._readiness.status(said)
        self._readiness.ready()

    async def _turn_over(self, new: CguestdConfig) -> None:
        """Replace the parts that ``new`` changes, the agent first; on an error those before it."""
        old = self._config
        if new.agent != old.agent and self._parts.agents is not None:
            await self._parts.agents.replace(self._parts.agent_part(new))
        hub = self._parts.hub_part(new)
        if new.cdh != old.cdh and self._parts.hubs is not None and hub is not None:
            try:
                await self._parts.hubs.replace(hub)
            except Exception:  # put right and passed on
                await self._put_back(old, new)
                raise
        self._config = new

    async def _put_back(self, old: CguestdConfig, new: CguestdConfig) -> None:
        if new.agent != old.agent and self._parts.agents is not None:
            await self._parts.agents.replace(self._parts.agent_part(old))
