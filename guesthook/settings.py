"""``/etc/confidential-guest/hooks.toml``: what the measured image says about hooks.

There is no other source: the host chooses the hook's arguments and could choose its environment.
Read by hand, because the validating decoder takes longer to import than the rest of a hook.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Final

from guesthook.errors import HookSettingsError
from guesthook.state import is_plain_path

HOOKS_TOML: Final = "/etc/confidential-guest/hooks.toml"
MAX_BYTES: Final = 64 * 1024
REFUSE: Final = "refuse"
FILES: Final = "files"


@dataclass(frozen=True, slots=True)
class HookSettings:
    """``environment`` is what becomes of sealed variables: ``refuse`` or ``files``.

    ``bundle_roots`` are where bundles may be, ``shared_roots`` where mount sources are that the
    host shares, ``oss_root`` where the hub mounts for containers (one of its own
    ``mounts.allowed_roots`` must hold it), ``oss_targets`` below what an annotation may place a
    bucket inside a container. ``hub_socket`` is a path.
    """

    environment: str = REFUSE
    hub_socket: str = "/run/confidential-containers/cdh.sock"
    bundle_roots: tuple[str, ...] = ("/run/kata-containers",)
    shared_roots: tuple[str, ...] = ("/run/kata-containers/shared/containers",)
    oss_root: str = "/run/cguest-oss"
    oss_targets: tuple[str, ...] = ("/mnt",)


def parse_settings(table: dict[str, object], source: str) -> HookSettings:
    """Judge a decoded file. Raises :class:`HookSettingsError` naming the key, never its value."""
    known = {field.name: field for field in fields(HookSettings)}
    values: dict[str, str | tuple[str, ...]] = {}
    for key, value in table.items():
        if key not in known:
            raise HookSettingsError(source, f"unknown key; known: {', '.join(sorted(known))}")
        if isinstance(known[key].default, tuple):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise HookSettingsError(source, f"{key}: expected a list of strings")
            values[key] = tuple(value)
        elif isinstance(value, str):
            values[key] = value
        else:
            raise HookSettingsError(source, f"{key}: expected a string")
    settings = HookSettings(**values)  # type: ignore[arg-type] # checked against the defaults' types
    if settings.environment not in (REFUSE, FILES):
        raise HookSettingsError(source, f"environment: expected {REFUSE} or {FILES}")
    paths = (
        *settings.bundle_roots, *settings.shared_roots, *settings.oss_targets,
        settings.oss_root, settings.hub_socket,
    )  # fmt: skip
    if not all(is_plain_path(path) for path in paths):
        raise HookSettingsError(source, "a path is not absolute, or has '.', '..' or '//' in it")
    return settings


def load_settings(path: str = HOOKS_TOML) -> HookSettings:
    """Read the file; one that does not exist means the defaults. Raises
    :class:`HookSettingsError` for any other trouble with it."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return HookSettings()
    except OSError as error:
        raise HookSettingsError(path, os.strerror(error.errno or 0)) from error
    if len(data) > MAX_BYTES:
        raise HookSettingsError(path, f"larger than {MAX_BYTES} bytes")
    import tomllib  # only images with such a file pay for it

    try:
        table: dict[str, object] = tomllib.loads(data.decode())
    except ValueError:
        raise HookSettingsError(path, "not TOML in UTF-8") from None
    return parse_settings(table, path)
