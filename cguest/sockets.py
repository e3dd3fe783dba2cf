"""Where to look: flags first, then the daemon's own file, then the defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lifecycle import SettingsError, UnixAddress

AGENT_SOCKET: Final = "unix:///run/confidential-containers/attestation-agent/attestation-agent.sock"
HUB_SOCKET: Final = "unix:///run/confidential-containers/cdh.sock"
REPORT_PATH: Final = "/sys/kernel/config/tsm/report"


@dataclass(frozen=True, slots=True)
class Targets:
    """Where this invocation looks. ``report_path`` and ``kbs_url`` are for ``cguest doctor``."""

    agent: UnixAddress
    hub: UnixAddress
    report_path: str
    kbs_url: str | None


def _section(table: Mapping[str, object], *names: str) -> Mapping[str, object]:
    value: object = table
    for name in names:
        value = value.get(name, {}) if isinstance(value, Mapping) else {}
    return value if isinstance(value, Mapping) else {}


def _text(table: Mapping[str, object], key: str, default: str) -> str:
    value = table.get(key, default)
    return value if isinstance(value, str) else default


def resolve(config: Path | None, agent: str | None, hub: str | None) -> Targets:
    """Work out the targets. Raises :class:`lifecycle.SettingsError` or ``SocketError``.

    Only the keys needed here are looked at: whether the file is right as a whole is what
    ``cguestd --check-config`` says.
    """
    table: Mapping[str, object] = {}
    if config is not None:
        try:
            table = tomllib.loads(config.read_text())
        except OSError as error:
            raise SettingsError(str(config), f"cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(str(config), "not valid TOML") from error
    agent_table, kbc = _section(table, "agent"), _section(table, "cdh", "kbc")
    kbs = _section(agent_table, "token_configs", "kbs")
    return Targets(
        agent=UnixAddress.parse(agent or _text(agent_table, "socket", AGENT_SOCKET)),
        hub=UnixAddress.parse(hub or _text(_section(table, "cdh"), "socket", HUB_SOCKET)),
        report_path=_text(_section(agent_table, "tee"), "report_path", REPORT_PATH),
        kbs_url=_text(kbs, "url", _text(kbc, "url", "")) or None,
    )
