"""The parts of a bundle's ``config.json`` (OCI runtime specification) that a hook looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from guesthook.errors import BundleError
from guesthook.strict_json import (
    Json,
    StrictJsonError,
    parse_object,
    table_of,
    text_map_of,
    text_of,
    texts_of,
)

MAX_CONFIG: Final = 4 * 1024 * 1024  # bytes
MAX_MOUNTS: Final = 1024


@dataclass(frozen=True, slots=True)
class Mount:
    """One entry of ``mounts``."""

    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """``root`` is absolute. ``environment`` keeps order and repetitions."""

    root: str
    environment: tuple[tuple[str, str], ...]
    mounts: tuple[Mount, ...]
    annotations: dict[str, str]


def parse_spec(data: bytes, bundle: str) -> ContainerSpec:
    """Read a ``config.json``. Raises :class:`BundleError`."""
    subject = f"{bundle}/config.json"
    if len(data) > MAX_CONFIG:
        raise BundleError(subject, f"larger than {MAX_CONFIG} bytes")
    try:
        table = parse_object(data)
        root = text_of(table_of(table, "root"), "path")
        environment = texts_of(table_of(table, "process"), "env")
        return ContainerSpec(
            root=root if root.startswith("/") else f"{bundle}/{root}",
            environment=tuple(_variable(text) for text in environment),
            mounts=_mounts(table.get("mounts")),
            annotations=text_map_of(table, "annotations"),
        )
    except StrictJsonError as error:
        raise BundleError(subject, error.reason) from error


def _variable(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _mounts(value: Json) -> tuple[Mount, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_MOUNTS:
        raise StrictJsonError(f"mounts: expected a list of at most {MAX_MOUNTS}")
    found = []
    for entry in value:
        if not isinstance(entry, dict):
            raise StrictJsonError("mounts: expected objects")
        # Both runtimes and the agent leave empty members out or write null.
        source = entry.get("source")
        found.append(
            Mount(source if isinstance(source, str) else "", text_of(entry, "destination"))
        )
    return tuple(found)
