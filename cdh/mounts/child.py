"""One mount process: started, told what to mount, listened to, ended.

The process gets four descriptors and nothing else: the launch pipe (read once), the status pipe,
the lifeline (whose end tells it that the hub is gone), and stderr. No secret is in its arguments,
its environment or any file.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from cdh.errors import MountFailedError
from cdh.mounts.relay import relay_stderr
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("cdh.mounts")

COMMAND: Final = (sys.executable, "-m", "ossmount")
MAX_STATUS_LINE: Final = 16 * 1024  # bytes; a longer one is a fault of the process
KILL_SECONDS: Final = 5.0  # from SIGKILL to the end of the process


class StatusEvent(msgspec.Struct):
    """One line of the status pipe: ``ready``, ``failed``, ``stats`` or ``stopped``."""

    event: str
    kind: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a mount process ended. ``orderly``: it said so itself and exited with 0."""

    exit_code: int
    orderly: bool
    failure: StatusEvent | None

    def describe(self) -> str:
        if self.failure is not None:
            return self.failure.message
        if self.exit_code < 0:
            return f"the mount process was killed by signal {-self.exit_code}"
        return f"the mount process ended with exit code {self.exit_code}"


def _environment() -> dict[str, str]:
    """Return the whole environment of a mount process; ours may hold anything and stays here."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        # Where this package was imported from, so that both are of one version.
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONSAFEPATH": "1",
    }


def _fill_pipe(fd: int, document: Secret) -> None:
    """Put the whole document into the empty pipe at once, so that nothing waits for a reader."""
    content = document.reveal()
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, max(len(content), 4096))
    os.set_blocking(fd, False)
    if os.write(fd, content) != len(content):
        raise BlockingIOError


@contextlib.contextmanager
def _closing(*fds: int) -> Iterator[None]:
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


async def _listen(fd: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """Return a reader of the status pipe; takes over ``fd``."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_STATUS_LINE)
    pipe = os.fdopen(fd, "rb", buffering=0)
    try:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
    except BaseException:  # cleaned up and passed on, cancellation included
        pipe.close()
        raise
    return reader, transport


class MountChild:
    """A started mount process. Owned by one task; ``end`` is called on every path."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        mount_point: str,
        status: tuple[asyncio.StreamReader, asyncio.ReadTransport],
        lifeline: int,
    ) -> None:
        self._process = process
        self._mount_point = mount_point
        self._status, self._transport = status
        self._lifeline: int | None = lifeline
        self._last: StatusEvent | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, command: Sequence[str], document: Secret, mount_point: str) -> MountChild:
        """Start a process and give it its document.

        Raises :class:`MountFailedError` of kind ``launch``. Cancellation leaves no process: the
        lifeline closes with our descriptors.
        """
        launch_read, launch_write = os.pipe()
        status_read, status_write = os.pipe()
        lifeline_read, lifeline_write = os.pipe()
        theirs = (launch_read, status_write, lifeline_read)
        try:
            with _closing(launch_write, *theirs):
                _fill_pipe(launch_write, document)
                process = await _spawn(command, theirs)
        except BaseException as error:
            os.close(status_read)
            os.close(lifeline_write)
            if isinstance(error, OSError):
                reason = os.strerror(error.errno) if error.errno else type(error).__name__
                raise MountFailedError(mount_point, "launch", reason) from error
            raise
        try:
            status = await _listen(status_read)
        except BaseException:  # cleaned up and passed on, cancellation included
            os.close(lifeline_write)
            process.kill()
            raise
        return cls(process, mount_point, status, lifeline_write)

    async def ready(self) -> None:
        """Return when the process says that it serves. Raises :class:`MountFailedError`."""
        while (event := await self._next_event()) is not None:
            if event.event == "ready":
                return
            if event.event == "failed":
                raise MountFailedError(
                    self._mount_point, event.kind or "internal", event.message, hint=event.hint
                )
        ending = await self._wait()
        raise MountFailedError(self._mount_point, "died", ending.describe())

    async def ended(self) -> Ending:
        """Return when the process has ended by itself."""
        while await self._next_event() is not None:
            pass
        return await self._wait()

    async def relay(self) -> None:
        """Pass its stderr on to our log until it is closed."""
        if self._process.stderr is not None:
            await relay_stderr(self._process.stderr, self._mount_point)

    async def end(self, grace_seconds: float) -> None:
        """Ask the process to unmount and exit; kill it after ``grace_seconds``; reap it."""
        self._close_lifeline()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(grace_seconds):
                    await self._process.wait()
            except TimeoutError:
                await self._kill()
            except asyncio.CancelledError:
                await self._kill()
                raise
        self._transport.close()

    async def _kill(self) -> None:
        log.warning("mount process killed", mount_point=self._mount_point, pid=self.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        try:
            async with asyncio.timeout(KILL_SECONDS):
                await self._process.wait()
        except TimeoutError:
            # Stuck in the kernel; detaching its mount, which the caller does next, releases it.
            log.error("mount process does not die", pid=self.pid)  # noqa: TRY400 - no trace needed

    async def _wait(self) -> Ending:
        code = await self._process.wait()
        self._close_lifeline()
        self._transport.close()
        last = self._last
        stopped = last is not None and last.event == "stopped"
        failure = last if last is not None and last.event == "failed" else None
        return Ending(code, orderly=stopped and code == 0, failure=failure)

    async def _next_event(self) -> StatusEvent | None:
        """Return the next status event, None at the end of the pipe or if it makes no sense."""
        try:
            line = await self._status.readline()
            if not line:
                return None
            event = msgspec.json.decode(line, type=StatusEvent)
        except (ValueError, msgspec.MsgspecError):
            # What cannot be read is not trusted to be a mount: end it, as if it had died.
            log.warning("mount process status unreadable", mount_point=self._mount_point)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            return None
        if event.event in ("failed", "stopped"):
            self._last = event
        return event

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


async def _spawn(command: Sequence[str], fds: tuple[int, int, int]) -> asyncio.subprocess.Process:
    launch, status, lifeline = (str(fd) for fd in fds)
    return await asyncio.create_subprocess_exec(
        *command,
        "--launch-fd",
        launch,
        "--status-fd",
        status,
        "--lifeline-fd",
        lifeline,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=fds,
        env=_environment(),
        cwd="/",
        # Terminal signals are for the hub, which ends its mounts in order.
        start_new_session=True,
    )
