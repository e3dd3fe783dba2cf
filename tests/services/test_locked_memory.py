"""Locked memory in processes of their own: with the right to it, and without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
from secrecy.process import lock_memory
locked = lock_memory()
block = bytearray(64 << 20)  # must be there all the same, more than any common limit
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(locked), status["VmLck"].split()[0], len(block))
"""
FIRST_NAMESPACE = ["0", "0", "4294967295"]


def _run(*prefix: str) -> tuple[bool, int]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", PROGRAM],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    locked, kilobytes, _ = done.stdout.split()
    return locked == "1", int(kilobytes)


def _in_first_namespace() -> bool:
    with open("/proc/self/uid_map") as uid_map:
        return uid_map.read().split() == FIRST_NAMESPACE


def test_root_locks_everything_and_a_namespace_nothing() -> None:
    locked, kilobytes = _run("prlimit", "--memlock=65536:65536")
    assert locked is _in_first_namespace()
    assert (kilobytes >= 64 << 10) is locked


@pytest.mark.parametrize("limit", ["0", "65536"])
def test_under_a_limit_nothing_is_locked_and_nothing_fails(limit: str) -> None:
    without = ("setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock")
    assert _run("prlimit", f"--memlock={limit}:{limit}", *without) == (False, 0)
