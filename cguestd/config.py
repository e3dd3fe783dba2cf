"""One TOML file, one frozen value; each service gets its slice and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from agent.config import AgentConfig
from cdh.config import CdhConfig
from lifecycle import UnixAddress, load_toml
from rest.config import RestConfig

Service = Literal["agent", "hub", "rest"]
ALL_SERVICES: tuple[Service, ...] = ("agent", "hub", "rest")


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``level``: debug, info, warning (default) or error. The console is the host's."""

    level: Literal["debug", "info", "warning", "error"] = "warning"


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``socket``: where metrics are served, ``unix:///path``; absent is not at all."""

    socket: str | None = None


class CguestdConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[agent]`` as aa.toml, ``[cdh]`` as cdh.toml, ``[rest]``, ``[log]``, ``[metrics]``."""

    agent: AgentConfig = msgspec.field(default_factory=AgentConfig)
    cdh: CdhConfig = msgspec.field(default_factory=CdhConfig)
    rest: RestConfig = msgspec.field(default_factory=RestConfig)
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    metrics: MetricsConfig = msgspec.field(default_factory=MetricsConfig)

    def check(self) -> None:
        """Raise for values that cannot work, before anything is opened. Reads no files.

        Raises ``lifecycle.LifecycleError``, ``cdh.errors.CdhError`` or ``rest.errors.RestError``.
        """
        UnixAddress.parse(self.agent.socket)
        if self.metrics.socket is not None:
            UnixAddress.parse(self.metrics.socket)
        self.cdh.check()
        self.rest.check()


def load(path: Path | None) -> CguestdConfig:
    """Read ``path``, or take the defaults when no file is named.

    Raises :class:`lifecycle.SettingsError`: a named file that cannot be read is never replaced by
    defaults.
    """
    return CguestdConfig() if path is None else load_toml(path, CguestdConfig)
