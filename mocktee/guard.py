"""Keeps the mock TEE away from a real one.

Owns the decision only. A real TEE is recognised by what the kernel shows for it; anything that
cannot be looked up for another reason than absence counts as present (fail closed).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mocktee.errors import RealTeeError

KERNEL_TREES: Final = ("/sys", "/proc", "/dev")


@dataclass(frozen=True, slots=True)
class TeeTraces:
    """Paths whose existence means a real TEE; injectable so that the rule can be tested."""

    paths: tuple[str, ...] = (
        "/dev/tdx_guest",
        "/dev/tdx-guest",
        "/dev/tdx-attest",
        "/sys/firmware/tdx",
        "/sys/kernel/config/tsm/report",
    )


def refuse_beside_real_tee(
    mount_paths: Sequence[str] = (), traces: TeeTraces | None = None
) -> None:
    """Return if no trace of a real TEE exists and no mount path lies in a kernel tree.

    Raises :class:`RealTeeError`. Symbolic links in a mount path are resolved first, so a link
    into ``/sys`` is refused like ``/sys`` itself.
    """
    for path in (traces or TeeTraces()).paths:
        if _present(path):
            raise RealTeeError(path, "a real TEE appears to be here")
    for path in mount_paths:
        resolved = os.path.realpath(path)
        for tree in KERNEL_TREES:
            if resolved == tree or resolved.startswith(tree + "/"):
                raise RealTeeError(path, f"lies under {tree}")


def _present(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RealTeeError(path, f"cannot be ruled out ({error.strerror})") from error
    return True
