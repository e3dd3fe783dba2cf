"""One file, one frozen value; each service gets its slice and nothing else."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.config import AgentConfig
from cdh.config import CdhConfig
from cdh.credentials import check_credentials
from lifecycle import SettingsError, UnixAddress
from lifecycle.log_filter import LogConfig
from rest.config import RestConfig
from rest.strict import Compatibility

Service = Literal["agent", "hub", "rest"]
ALL_SERVICES: tuple[Service, ...] = ("agent", "hub", "rest")


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
        self.agent.check()
        if self.metrics.socket is not None:
            UnixAddress.parse(self.metrics.socket)
        self.cdh.check()
        check_credentials(self.cdh.credentials)
        self.rest.check()
        self._check_mixes()

    def _check_mixes(self) -> None:
        agent, cdh, rest = self.agent, self.cdh, self.rest
        sockets = (
            agent.socket,
            agent.keyprovider_socket,
            agent.getresource_socket,
            cdh.socket,
            rest.socket,
            self.metrics.socket,
        )
        given = [socket for socket in sockets if socket is not None]
        if len(set(given)) < len(given):
            raise SettingsError(
                "agent.socket, cdh.socket, rest.socket, metrics.socket",
                "two of them are the same address",
                hint="give each its own",
            )
        if cdh.skip_sealed_secret_verification and rest.token is not Compatibility.STRICT:
            raise SettingsError(
                "cdh.skip_sealed_secret_verification",
                f"together with rest.token {rest.token.value!r}: secrets that anybody can make, and"
                " a session that any container can take",
                hint="allow one of them at most",
            )
        if agent.tee.allow_sample and cdh.kbc.serve_stale_seconds > 0:
            raise SettingsError(
                "agent.tee.allow_sample",
                "together with cdh.kbc.serve_stale_seconds: real secrets would outlive a guest"
                " that proves nothing",
                hint="allow one of them at most",
            )
