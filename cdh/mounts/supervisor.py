"""Owns every mount process from its start to the removal of its mount.

Each mount is one task: it prepares the directory, starts the process, confirms the mount in the
kernel's table, waits, restarts what dies, and on its way out ends the process, detaches the mount
and removes the directory it made. Ending a mount means cancelling its task; so failure, deadline,
``unmount`` and shutdown all leave by the same door.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cdh.errors import (
    MountError,
    MountFailedError,
    MountNotFoundError,
    MountPointError,
    MountRefusedError,
)
from cdh.mounts.child import COMMAND, Ending, MountChild
from cdh.mounts.launch import Launch
from cdh.mounts.mountinfo import read_mountinfo, topmost
from cdh.mounts.mountpoint import PreparedMountPoint, prepare_mount_point
from cdh.mounts.unmount import detach
from secrecy.journal import get_logger

log = get_logger("cdh.mounts")

ABANDON_SECONDS: Final = 5.0  # for a process to go whose mount was never used
RELAY_SECONDS: Final = 1.0  # for the last words of a process that has ended


class MountState(StrEnum):
    STARTING = "starting"
    MOUNTED = "mounted"
    RESTARTING = "restarting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class MountStatus:
    """A mount as it is now. ``since_unix`` is when it entered this state, ``pid`` 0 if none."""

    mount_point: str
    bucket: str
    prefix: str
    volume_id: str
    state: MountState
    pid: int
    restarts: int
    read_only: bool
    last_error: str
    since_unix: int


@dataclass(frozen=True, slots=True)
class SupervisionPolicy:
    """Times in seconds. After ``restart_delays`` is used up a mount stays failed.

    ``max_mounts`` bounds the processes the host can have started.

    A mount that held for ``stable_seconds`` starts again with the first delay. ``start_seconds``
    bounds a start whose caller set no earlier deadline.
    """

    start_seconds: float = 45.0
    stop_seconds: float = 20.0
    restart_delays: tuple[float, ...] = (0.2, 1.0, 5.0, 15.0, 30.0)
    stable_seconds: float = 60.0
    max_mounts: int = 64


@dataclass(slots=True, eq=False)
class _Mount:
    """The changing side of one mount. Belongs to its task; others read it or cancel the task."""

    launch: Launch
    started: asyncio.Future[None]
    state: MountState = MountState.STARTING
    since: float = field(default_factory=time.time)
    pid: int = 0
    restarts: int = 0
    last_error: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def path(self) -> str:
        return self.launch.spec.mount_point

    def enter(self, state: MountState, problem: str = "") -> None:
        self.state = state
        self.since = time.time()
        if problem:
            self.last_error = problem

    def status(self) -> MountStatus:
        spec = self.launch.spec
        return MountStatus(
            mount_point=self.path,
            bucket=spec.bucket,
            prefix=spec.prefix,
            volume_id=spec.volume_id,
            state=self.state,
            pid=self.pid,
            restarts=self.restarts,
            read_only=spec.read_only,
            last_error=self.last_error,
            since_unix=int(self.since),
        )


class MountSupervisor:
    """Makes, watches and removes mounts. :meth:`run` must be running for a mount to be made."""

    def __init__(
        self,
        policy: SupervisionPolicy | None = None,
        *,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._policy = SupervisionPolicy() if policy is None else policy
        self._command = tuple(command)
        self._mounts: dict[str, _Mount] = {}
        self.total_restarts = 0  # also of mounts that are gone
        self._tasks: asyncio.TaskGroup | None = None
        self._running = asyncio.Event()
        self._stopped = False

    async def run(self) -> None:
        """Own the tasks of all mounts until cancelled; then remove every mount. Runs once."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._running.set()
            try:
                await asyncio.Event().wait()
            finally:
                # Before the group waits for its tasks: a mount made now would never end.
                self._stopped = True

    def list(self) -> tuple[MountStatus, ...]:
        """Return all mounts, ordered by mount point."""
        return tuple(self._mounts[path].status() for path in sorted(self._mounts))

    async def mount(self, launch: Launch) -> None:
        """Make a mount and return when it serves.

        Raises :class:`~cdh.errors.MountError`; nothing is left then. On cancellation (a deadline
        of the caller) likewise: this returns only after everything was undone. Takes over the
        credentials and wipes them when the mount ends.
        """
        await self._running.wait()
        path = launch.spec.mount_point
        try:
            tasks = await self._admit(path)
        except BaseException:  # cleaned up and passed on, cancellation included
            launch.credentials.wipe()
            raise
        mount = _Mount(launch, asyncio.get_running_loop().create_future())
        # A failure whose caller has left is no news to anybody.
        mount.started.add_done_callback(_retrieve)
        self._mounts[path] = mount
        mount.task = tasks.create_task(self._life(mount), name=f"mount {path}")
        # A callback, as a task that is cancelled before it began runs no "finally".
        mount.task.add_done_callback(functools.partial(self._forget, mount))
        try:
            await asyncio.shield(mount.started)
        except asyncio.CancelledError:
            await _finish(mount.task)
            raise

    async def unmount(self, mount_point: str) -> None:
        """Remove a mount. Raises :class:`MountNotFoundError`, or if the kernel keeps it.

        Cancellation does not stop the removal once begun.
        """
        path = mount_point.rstrip("/")
        mount = self._mounts.get(path)
        if mount is None or mount.task is None:
            raise MountNotFoundError(mount_point)
        await _finish(mount.task)
        entry = topmost(await asyncio.to_thread(read_mountinfo), path)
        if entry is not None and entry.source == mount.launch.fs_name:
            raise MountFailedError(path, "unmount", "the mount is still in the mount table")

    async def close(self) -> None:
        """Remove every mount and make no more. Idempotent."""
        self._stopped = True
        tasks = [mount.task for mount in self._mounts.values() if mount.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _admit(self, path: str) -> asyncio.TaskGroup:
        """See that nothing of ours is in the way; a mount that has failed for good is dropped.

        Returns the group for the new mount's task. Nothing may be awaited between this check and
        the new record.
        """
        present = self._mounts.get(path)
        if present is not None and present.state is MountState.FAILED:
            await self.unmount(path)
        if len(self._mounts) >= self._policy.max_mounts:
            raise MountRefusedError(
                "mounts", f"this guest has {len(self._mounts)} already, which is the limit"
            )
        for other in self._mounts:
            if path == other or path.startswith(other + "/") or other.startswith(path + "/"):
                raise MountPointError(
                    path,
                    f"a secure mount is already at {other}",
                    hint="unmount it first, or choose another place",
                )
        if self._stopped or self._tasks is None:
            raise MountFailedError(path, "stopped", "the hub is stopping")
        return self._tasks

    async def _life(self, mount: _Mount) -> None:
        """Be the task of one mount. Ends without an exception, whatever happens to the mount."""
        try:
            prepared = await _prepare(mount.path)
            try:
                await self._serve(mount)
            finally:
                left = await asyncio.to_thread(prepared.remove_created)
                if left:
                    log.warning("directory not removed", path=left[-1])
        except MountError as error:
            if not mount.started.done():
                mount.started.set_exception(error)
        except Exception as error:  # noqa: BLE001 - the boundary of one mount; others go on
            log.error("mount lost", mount_point=mount.path, error=type(error).__name__)  # noqa: TRY400
            if not mount.started.done():
                name = type(error).__name__
                mount.started.set_exception(MountFailedError(mount.path, "internal", name))

    def _forget(self, mount: _Mount, _task: asyncio.Task[None]) -> None:
        """Drop the record of an ended mount, with its keys, and release who waits for its start."""
        del self._mounts[mount.path]
        mount.launch.credentials.wipe()
        if not mount.started.done():
            mount.started.set_exception(
                MountFailedError(mount.path, "stopped", "ended while it was starting")
            )

    async def _serve(self, mount: _Mount) -> None:
        """Run one process after the other until the mount is over."""
        delays = iter(self._policy.restart_delays)
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                ending = await self._run_once(mount)
                if ending.orderly:
                    log.warning("unmounted from outside", mount_point=mount.path)
                    return
                problem = ending.describe()
            except MountError as error:
                if not mount.started.done():
                    raise
                problem = str(error)
            if loop.time() - begun >= self._policy.stable_seconds:
                delays = iter(self._policy.restart_delays)
            delay = next(delays, None)
            if delay is None:
                await self._stay_failed(mount, problem)
            else:
                mount.enter(MountState.RESTARTING, problem)
                log.warning("mount died", mount_point=mount.path, problem=problem, again_in=delay)
                await asyncio.sleep(delay)
                mount.restarts += 1
                self.total_restarts += 1

    async def _stay_failed(self, mount: _Mount, problem: str) -> None:
        """Keep the record, without keys, until somebody unmounts or replaces it."""
        mount.enter(MountState.FAILED, problem)
        mount.launch.credentials.wipe()
        log.error("mount given up", mount_point=mount.path, problem=problem)
        await asyncio.Event().wait()

    async def _run_once(self, mount: _Mount) -> Ending:
        """Run one process to its end. Raises :class:`MountFailedError` if it does not serve.

        However this is left, the process is reaped and its mount is out of the tree.
        """
        document = mount.launch.encode()
        try:
            child = await MountChild.start(self._command, document, mount.path)
        finally:
            document.wipe()
        mount.pid = child.pid
        relay = asyncio.create_task(child.relay())  # awaited in _hear_out, on every path
        try:
            await self._await_ready(mount, child)
            mount.enter(MountState.MOUNTED)
            log.info("mounted", mount_point=mount.path, pid=child.pid)
            if not mount.started.done():
                mount.started.set_result(None)
            return await child.ended()
        finally:
            mount.pid = 0
            try:
                await self._part_with(mount, child)
            finally:
                await _hear_out(relay)

    async def _await_ready(self, mount: _Mount, child: MountChild) -> None:
        """Wait for ``ready`` and confirm it in the mount table."""
        limit = self._policy.start_seconds
        try:
            async with asyncio.timeout(limit):
                await child.ready()
        except TimeoutError as error:
            raise MountFailedError(
                mount.path,
                "timeout",
                f"not ready within {limit:g} s",
                hint="see whether the object store can be reached from the guest",
            ) from error
        entry = topmost(await asyncio.to_thread(read_mountinfo), mount.path)
        if entry is None or entry.source != mount.launch.fs_name:
            raise MountFailedError(
                mount.path, "mount", "the process said ready, the mount table does not show it"
            )

    async def _part_with(self, mount: _Mount, child: MountChild) -> None:
        """End and reap the process and detach its mount."""
        # One that never served has nothing to flush.
        served = mount.state is MountState.MOUNTED
        grace = self._policy.stop_seconds
        try:
            await child.end(grace if served else min(grace, ABANDON_SECONDS))
        finally:
            await _uninterrupted(_detach_own, mount.path, mount.launch.fs_name)


async def _hear_out(relay: asyncio.Task[None]) -> None:
    """Let the last words of an ended process through, but do not wait for who holds its stderr."""
    try:
        await asyncio.wait({relay}, timeout=RELAY_SECONDS)
    finally:
        relay.cancel()


def _detach_own(path: str, fs_name: str) -> None:
    """Detach what is mounted at ``path`` if it is ours. Logs failures: the way out goes on."""
    try:
        entry = topmost(read_mountinfo(), path)
        if entry is not None and entry.source == fs_name:
            detach(path)
            log.info("mount detached", mount_point=path)
    except (OSError, MountError) as error:
        log.error("mount not detached", mount_point=path, problem=str(error))  # noqa: TRY400


def _retrieve(started: asyncio.Future[None]) -> None:
    if not started.cancelled():
        started.exception()


async def _finish(task: asyncio.Task[None]) -> None:
    """Cancel ``task`` and wait for its way out; a second cancellation of ours leaves it to it."""
    task.cancel()
    await asyncio.wait({task})


async def _uninterrupted(function: Callable[[str, str], None], *arguments: str) -> None:
    """Run a blocking function in a thread and wait for it even if cancelled meanwhile."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await work
        raise


async def _prepare(path: str) -> PreparedMountPoint:
    """Prepare the mount point; if cancelled meanwhile, undo what the thread still did."""
    work = asyncio.ensure_future(asyncio.to_thread(prepare_mount_point, path))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        prepared = await work
        await asyncio.to_thread(prepared.remove_created)
        raise
