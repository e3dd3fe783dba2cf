"""Mounts the file system and serves it until told to stop: the composition root of the process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyfuse3
import pyfuse3.asyncio

from mocktee.errors import MountPointError
from mocktee.guard import refuse_beside_real_tee
from mocktee.pki import MockPki
from mocktee.td import TdState
from mocktee.tsm.control import Control, control_socket
from mocktee.tsm.faults import FaultQueue
from mocktee.tsm.layout import CCEL, CCEL_TABLE, MEASUREMENTS, REPORT_ROOT
from mocktee.tsm.mounttable import is_mounted
from mocktee.tsm.operations import TsmOperations
from mocktee.tsm.profile import DEFAULT_PROFILE, KernelProfile
from mocktee.tsm.provider import TdxProvider
from mocktee.tsm.snp import SnpProvider
from mocktee.tsm.subsystem import Provider, ReportSubsystem
from mocktee.tsm.tree import Tree

MAX_REQUESTS: Final = 512  # calls answered at once; those waiting for a quote count too
DRAIN_SECONDS: Final = 2.0  # for calls in progress when the process is told to stop


@dataclass(frozen=True, slots=True)
class TsmOptions:
    """``latency_s`` is how long each quote takes; a stock kernel needs about 1.0."""

    mount: Path
    pki: Path
    control: Path
    latency_s: float = 0.0
    mrconfigid: bytes = bytes(48)
    kernel: KernelProfile = DEFAULT_PROFILE
    provider: str = TdxProvider.name
    lifeline_fd: int | None = None


async def serve(options: TsmOptions) -> None:
    """Run until SIGTERM, SIGINT, end of the lifeline or unmounting by somebody else.

    Prints one JSON line when everything answers. Whatever ends it, the mount and the socket are
    gone afterwards, and the mount point too if it was made here. Raises ``MockTeeError`` and
    ``OSError``.
    """
    refuse_beside_real_tee([str(options.mount)])
    stop = _stop_event(options.lifeline_fd)  # before the mount: an early signal must find it
    td = TdState.booted(mrconfigid=options.mrconfigid)
    faults = FaultQueue()
    provider = _provider(options, td, faults)
    subsystem = ReportSubsystem(provider, faults)
    tree = Tree(td, subsystem)
    operations = TsmOperations(tree, subsystem)
    with _mounted(operations, options.mount):
        async with control_socket(str(options.control), Control(td, subsystem, tree)):
            await _run_until_stopped(options, provider, stop)


def _provider(options: TsmOptions, td: TdState, faults: FaultQueue) -> Provider:
    if options.provider == SnpProvider.name:
        return SnpProvider(options.kernel)
    pki = MockPki.load(options.pki)
    return TdxProvider(pki, td, faults, options.latency_s, options.kernel)


@contextlib.contextmanager
def _mounted(operations: TsmOperations, mount: Path) -> Iterator[None]:
    """Hold the mount. pyfuse3 keeps its session in the module, so one per process."""
    if is_mounted(mount):
        raise MountPointError(str(mount), "already mounted", hint=f"run umount -l {mount} first")
    made = not mount.exists()
    mount.mkdir(parents=True, exist_ok=True)
    if any(mount.iterdir()):
        raise MountPointError(str(mount), "not empty", hint="name an empty or new directory")
    try:
        pyfuse3.asyncio.enable()
        mount_options = {"fsname=mocktee", "subtype=tsm"}  # without default_permissions
        pyfuse3.init(operations, str(mount), mount_options)
        try:
            yield
        finally:
            pyfuse3.close(unmount=True)
    finally:
        if made:
            with contextlib.suppress(OSError):
                mount.rmdir()


def _stop_event(lifeline_fd: int | None) -> asyncio.Event:
    """Set by a signal or by the end of the lifeline, whichever comes first."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if lifeline_fd is not None:
        _watch_lifeline(loop, lifeline_fd, stop)
    return stop


async def _run_until_stopped(options: TsmOptions, provider: Provider, stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        fuse = tasks.create_task(pyfuse3.main(max_tasks=MAX_REQUESTS))
        fuse.add_done_callback(lambda _: stop.set())  # somebody unmounted us
        print(json.dumps(ready_line(options)), flush=True)
        await stop.wait()
        provider.stop()
        if not fuse.done():
            asyncio.get_running_loop().set_exception_handler(_ignore_late_wakeup)
            pyfuse3.terminate()
            await asyncio.wait([fuse], timeout=DRAIN_SECONDS)
            fuse.cancel()


def _ignore_late_wakeup(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Drop one report: pyfuse3.terminate() fails the future its reader may be about to set."""
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)


def _watch_lifeline(loop: asyncio.AbstractEventLoop, fd: int, stop: asyncio.Event) -> None:
    """Stop when the other end of ``fd`` is gone, so that a killed parent leaves no mount."""
    os.set_blocking(fd, False)

    def readable() -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(fd, 64):
                loop.remove_reader(fd)
                stop.set()

    loop.add_reader(fd, readable)


def ready_line(options: TsmOptions) -> dict[str, object]:
    """What the process prints on standard output once it serves."""
    return {
        "ready": True,
        "pid": os.getpid(),
        "mount": str(options.mount),
        "report_root": str(options.mount / REPORT_ROOT),
        "measurements": str(options.mount / MEASUREMENTS),
        "ccel": str(options.mount / CCEL),
        "ccel_table": str(options.mount / CCEL_TABLE),
        "control": str(options.control),
    }
