"""Process-wide hardening: no core dumps, no ptrace, and no memory of it on a swap device."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
MCL_CURRENT: Final = 1  # asm-generic/mman.h
MCL_FUTURE: Final = 2
MCL_ONFAULT: Final = 4
CAP_IPC_LOCK: Final = 14  # linux/capability.h
CAP_SYS_PTRACE: Final = 19


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


def lock_memory() -> bool:
    """Keep all memory of this process off swap devices, where that is allowed; tell whether.

    All of it, because a key is also where a library copied it. Pages are locked as they come into
    use (``MCL_ONFAULT``), so it costs no memory. Allowed means CAP_IPC_LOCK or an unlimited
    RLIMIT_MEMLOCK: under any other limit a later allocation would fail in the midst of work.
    Children do not inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        soft = hard
    if soft != resource.RLIM_INFINITY and not _may_lock():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)


def has_capability(number: int) -> bool:
    """Whether this process has a capability (capabilities(7)) in effect; False if unreadable."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            effective = next(line for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration, UnicodeDecodeError):
        return False
    return bool(int(effective.split()[1], 16) >> number & 1)


def _may_lock() -> bool:
    """Whether CAP_IPC_LOCK is there, and counts: it does in the first user namespace only."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as uid_map:
            first_namespace = uid_map.read().split() == ["0", "0", "4294967295"]
    except (OSError, UnicodeDecodeError):
        return False
    return first_namespace and has_capability(CAP_IPC_LOCK)
