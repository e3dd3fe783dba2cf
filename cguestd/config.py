"""One file, one frozen value; each service gets its slice and nothing else."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final, Literal

import msgspec

from agent.config import AgentConfig
from cdh.config import CdhConfig
from cdh.credentials import check_credentials
from lifecycle import SettingsError, UnixAddress
from lifecycle.log_filter import LogConfig
from receipts import DEFAULT_DIRECTORY
from rest.config import RestConfig
from rest.strict import Compatibility

Service = Literal["agent", "hub", "rest"]
MIN_CHECKPOINT_EVERY: Final = 10
ALL_SERVICES: tuple[Service, ...] = ("agent", "hub", "rest")


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``socket``: where metrics are served, ``unix:///path``; absent is not at all."""

    socket: str | None = None


class ReceiptsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of what this guest gives: :mod:`receipts`.

    ``required``: nothing is given without a receipt. ``checkpoint_every`` receipts the head is
    measured; 0 is only at the end and when asked.
    """

    enabled: bool = False
    directory: str = DEFAULT_DIRECTORY
    required: bool = False
    checkpoint_every: int = 1000

    def check(self) -> None:
        """Raise :class:`~lifecycle.SettingsError` for values that cannot work."""
        path = PurePosixPath(self.directory)
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
            raise SettingsError("receipts.directory", "not a directory of its own, from the root")
        if self.checkpoint_every and self.checkpoint_every < MIN_CHECKPOINT_EVERY:
            raise SettingsError(
                "receipts.checkpoint_every",
                f"less than {MIN_CHECKPOINT_EVERY}",
                hint="each checkpoint takes room in the event log; 0 is only at the end",
            )
        if self.required and not self.enabled:
            raise SettingsError(
                "receipts.required", "without effect", hint="set receipts.enabled as well"
            )


class CguestdConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[agent]`` as aa.toml, ``[cdh]`` as cdh.toml, and the tables of this program."""

    agent: AgentConfig = msgspec.field(default_factory=AgentConfig)
    cdh: CdhConfig = msgspec.field(default_factory=CdhConfig)
    rest: RestConfig = msgspec.field(default_factory=RestConfig)
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    metrics: MetricsConfig = msgspec.field(default_factory=MetricsConfig)
    receipts: ReceiptsConfig = msgspec.field(default_factory=ReceiptsConfig)

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
        self.receipts.check()
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
