"""Process-wide hardening: no core dumps, no ptrace, no memory locked out of sight of swap."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def harden_process() -> None:
    """Forbid core dumps and reading of this process by others of the same user.

    Raises ``OSError`` if the kernel refuses: going on with dumps enabled would let a crash write
    keys to the host's disk. Children inherit the core limit; each calls this for itself too.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_DUMPABLE, 0): {os.strerror(code)}")
