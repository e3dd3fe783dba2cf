"""The container state on standard input (OCI runtime specification, "State").

Other members than these are ignored, as that document demands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from guesthook.errors import StateError
from guesthook.strict_json import StrictJsonError, parse_object, text_of

MAX_STATE: Final = 1024 * 1024  # bytes; annotations are most of it
MAX_PID: Final = 2**22  # PID_MAX_LIMIT of 64-bit Linux
MAX_PATH: Final = 1024  # bytes
# The agent's rule for ids (kata-containers, src/agent/src/rpc.rs verify_id), with a bound.
CONTAINER_ID: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ContainerState:
    """``pid`` is the container's init; 0 means it has none any more."""

    id: str
    pid: int
    bundle: str


def is_plain_path(path: str) -> bool:
    """Whether ``path`` is absolute, bounded, printable and without ``.``, ``..`` or empty parts."""
    parts = path.split("/")[1:]
    return (
        path.startswith("/")
        and len(path.encode(errors="replace")) <= MAX_PATH
        and path.isprintable()
        and not any(part in ("", ".", "..") for part in parts)
    )


def parse_state(data: bytes) -> ContainerState:
    """Read a state. Raises :class:`StateError`."""
    if len(data) > MAX_STATE:
        raise StateError(f"larger than {MAX_STATE} bytes")
    try:
        table = parse_object(data)
        container_id = text_of(table, "id")
        bundle = text_of(table, "bundle")
    except StrictJsonError as error:
        raise StateError(error.reason) from error
    pid = table.get("pid", 0)
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 <= pid <= MAX_PID:
        raise StateError("pid: expected a process id")
    if not CONTAINER_ID.fullmatch(container_id):
        raise StateError("id: expected 1 to 128 of letters, digits, '_', '.' and '-'")
    if not is_plain_path(bundle):
        raise StateError("bundle: expected an absolute path without links to parents")
    return ContainerState(container_id, pid, bundle)
