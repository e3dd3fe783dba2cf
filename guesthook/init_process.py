"""The container's init: proven to be it, and killed if something of the container is refused.

kata-agent goes on after a hook that failed (kata-sys-util/src/hooks.rs: errors are logged, the
result is always success), so only this stops a container. The descriptor is taken first and every
check made while it is alive, so that a reused number cannot lead to another process.
"""

from __future__ import annotations

import os
import select
import signal
from typing import Self

from guesthook.errors import DeliveryError, StateError
from guesthook.state import ContainerState

_READ_LIMIT = 4 * 1024 * 1024  # bytes of a procfs file


def _proc(name: str) -> str:
    with open(f"/proc/{name}", "rb") as file:
        return file.read(_READ_LIMIT).decode(errors="replace")


def _stat_fields(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat after the command, which may contain anything."""
    return _proc(f"{pid}/stat").rpartition(")")[2].split()


def _started(pid: int | str) -> int:
    return int(_stat_fields(pid)[19])


def _ancestors() -> set[int]:
    """Return this process and all above it: among them is the agent."""
    found = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = int(_stat_fields(pid)[1])
    return found


def _mounts_bundle(mountinfo: str, bundle: str) -> bool:
    """Whether something is mounted at or below ``bundle`` (proc_pid_mountinfo(5), field 5)."""
    points = (fields[4] for line in mountinfo.splitlines() if len(fields := line.split(" ")) > 4)
    return any(point == bundle or point.startswith(bundle + "/") for point in points)


def in_group_of(cgroup: str, container: str) -> bool:
    """Whether a group in the text of /proc/PID/cgroup (cgroups(7)) is named after ``container``.

    The whole name is, or its end behind what a runtime puts in front; a systemd scope as well.
    """
    parts = (part for line in cgroup.splitlines() for part in line.partition("/")[2].split("/"))
    names = (part.removesuffix(".scope") for part in parts)
    return any(name == container or name.endswith((f"-{container}", f":{container}"))
               for name in names)  # fmt: skip


class InitProcess:
    """A process that is the init of the container of one state. Made by :meth:`identify`."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    @classmethod
    def identify(cls, state: ContainerState) -> Self:
        """Find it and prove that it is none of the guest's own processes.

        Raises :class:`StateError` unless it is older than this hook, above it in no way, in a
        mount namespace of its own, and either that namespace still has the bundle's mounts (before
        the runtime changes the root) or its cgroup is named after the container.
        """
        if state.pid <= 1:
            raise StateError("pid: names no container")
        try:
            descriptor = os.pidfd_open(state.pid)
        except OSError as error:
            raise StateError(f"pid {state.pid}: {os.strerror(error.errno or 0)}") from error
        found = cls(state.pid, descriptor)
        try:
            found._prove(state)
        except BaseException:  # closed and passed on
            found.close()
            raise
        return found

    def _prove(self, state: ContainerState) -> None:
        pid = self.pid
        try:
            if pid in _ancestors():
                raise StateError(f"pid {pid}: is the agent's")
            if _started(pid) > _started("self"):
                raise StateError(f"pid {pid}: started after this hook")
            own, its = (os.stat(f"/proc/{one}/ns/mnt").st_ino for one in ("self", pid))
            if its == own:
                raise StateError(f"pid {pid}: is in the guest's own mount namespace")
            belongs = _mounts_bundle(_proc(f"{pid}/mountinfo"), state.bundle) or in_group_of(
                _proc(f"{pid}/cgroup"), state.id
            )
        except (OSError, ValueError, IndexError) as error:
            raise StateError(f"pid {pid}: cannot be examined") from error
        if not belongs:
            raise StateError(f"pid {pid}: is not of this bundle")
        self.check_alive()

    def check_alive(self) -> None:
        """Raise :class:`StateError` if it ended, in which case /proc may show another process."""
        if self._ended(0):
            raise StateError(f"pid {self.pid}: ended")

    def kill(self, timeout: float) -> None:
        """Kill it and wait until it is dead, ``timeout`` seconds at most. Raises
        :class:`DeliveryError`."""
        try:
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return
        except OSError as error:
            raise DeliveryError(f"pid {self.pid}", os.strerror(error.errno or 0)) from error
        if not self._ended(timeout):
            raise DeliveryError(f"pid {self.pid}", "killed, but not gone yet")

    def _ended(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def close(self) -> None:
        os.close(self._descriptor)
