"""The guest daemon's configuration file for a harness, as TOML text.

Knows the file's keys as its documentation gives them, not the code that reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GuestPaths:
    """Where the daemon finds the mock TEE and puts what is its own."""

    report_root: Path
    measurements: Path
    ccel: Path
    run: Path

    @property
    def agent_socket(self) -> Path:
        return self.run / "attestation-agent.sock"

    @property
    def hub_socket(self) -> Path:
        return self.run / "cdh.sock"


@dataclass(frozen=True, slots=True)
class GuestSettings:
    """``ca_file`` None means plain http everywhere; ``mount_roots`` are where mounts may be."""

    kbs_url: str
    ca_file: Path | None
    mount_roots: Sequence[Path]
    rest_bind: str
    log_level: str
    cache_seconds: float = 0.0  # how long the hub may keep a resource; 0 is not at all


def guest_toml(paths: GuestPaths, settings: GuestSettings) -> str:
    """The whole file."""
    certificate = [] if settings.ca_file is None else [settings.ca_file.read_text()]
    agent = [
        _line("socket", f"unix://{paths.agent_socket}"),
        "\n[agent.token_configs.kbs]",
        _line("url", settings.kbs_url),
        *(f'cert = """\n{text}"""' for text in certificate),
        "\n[agent.tee]",
        _line("report_path", str(paths.report_root)),
        _line("measurements_path", str(paths.measurements)),
        _line("ccel_path", str(paths.ccel)),
        "\n[agent.eventlog_config]",
        "enable_eventlog = true",
        _line("directory", str(paths.run / "eventlog")),
    ]
    roots = ", ".join(_text(str(root)) for root in settings.mount_roots)
    hub = [
        _line("socket", f"unix://{paths.hub_socket}"),
        "\n[cdh.aa]",
        _line("aa_socket", f"unix://{paths.agent_socket}"),
        "\n[cdh.kbc]",
        _line("name", "cc_kbc"),
        f"cache_seconds = {settings.cache_seconds}",
        _line("url", settings.kbs_url),
        *(f'kbs_cert = """\n{text}"""' for text in certificate),
        "\n[cdh.mounts]",
        f"allowed_roots = [{roots}]",
        *([_line("ca_file", str(settings.ca_file))] if settings.ca_file else ["allow_http = true"]),
    ]
    rest = [_line("bind", settings.rest_bind), _line("features", "all")]
    return "\n".join(
        ("[agent]", *agent, "\n[cdh]", *hub, "\n[rest]", *rest, "\n[log]",
         _line("level", settings.log_level), "\n[receipts]", "enabled = true",
         _line("directory", str(paths.run / "receipts")), "")
    )  # fmt: skip


def _line(key: str, value: str) -> str:
    return f"{key} = {_text(value)}"


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(value)
