"""A stand-in for kata-agent as the one who starts us: what it does and nothing else.

It removes the socket it will wait for, starts a program with exact arguments and its own standard
streams, looks for the socket in rounds, connects once, and keeps that connection for ever. It
never restarts a program. Sources: kata-containers ``src/agent/src/main.rs`` at HEAD and CC-0.8.0.

The guest around it is a mount namespace with an empty ``/run``, the mock TEE where a kernel has
its interfaces, and a kernel command line; so all paths are the real ones.
"""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mocktee.tsm.process import TsmProcess
from ttrpc import Client

BIN: Final = Path(sys.executable).parent  # where an installation has our programs
AGENT_SOCKET: Final = "/run/confidential-containers/attestation-agent/attestation-agent.sock"
HUB_SOCKET: Final = "/run/confidential-containers/cdh.sock"
INITDATA: Final = "/run/confidential-containers/initdata"
# agent.launch_process_timeout of 6 s and one round more. The agent looks once a second, we look
# more often to be quick: for a program that is ready in time it makes no difference.
ROUND_SECONDS: Final = 0.25
TIMEOUT_ROUNDS: Final = int(7 / ROUND_SECONDS)
SETUP: Final = """
set -eu
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /sys
mkdir -p /sys/kernel/config/tsm/report /sys/devices/virtual/misc/tdx_guest/measurements
mkdir -p /sys/firmware/acpi/tables/data
mount --bind "$1" /sys/kernel/config/tsm/report
mount --bind "$2" /sys/devices/virtual/misc/tdx_guest/measurements
touch /sys/firmware/acpi/tables/data/CCEL
mount --bind "$3" /sys/firmware/acpi/tables/data/CCEL
mount --bind "$4" /proc/cmdline
echo ready
exec cat
"""


@dataclass(slots=True)
class Console:
    """The terminal that stands for the host's console. ``text`` is what has been read so far."""

    host: int
    guest: int
    text: bytearray = field(default_factory=bytearray)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Console]:
        host, guest = pty.openpty()
        settings = termios.tcgetattr(guest)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(guest, termios.TCSANOW, settings)
        os.set_blocking(host, False)
        console = cls(host, guest)
        try:
            yield console
        finally:
            console.close()

    def read(self) -> bytes:
        """Take what has been written up to now."""
        with suppress(BlockingIOError, OSError):
            while piece := os.read(self.host, 65536):
                self.text += piece
        return bytes(self.text)

    def close(self) -> None:
        """Be gone, as a console whose other end is closed. Idempotent."""
        for descriptor in (self.host, self.guest):
            if descriptor >= 0:
                os.close(descriptor)
        self.host = self.guest = -1


@dataclass(slots=True)
class KataAgent:
    """Launches programs in its guest, one after the other as its plan says."""

    namespace: int  # process that holds the mount namespace
    console: Console
    started: list[Process] = field(default_factory=list)

    def outside(self, path: str) -> Path:
        """Where the test finds a path of the guest."""
        return Path(f"/proc/{self.namespace}/root{path}")

    def write(self, path: str, content: bytes) -> None:
        """Put a file into the guest, as the agent does with the parts of initdata."""
        file = self.outside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    async def launch(
        self,
        program: str | Sequence[str],
        *arguments: str,
        wait_for: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Process:
        """Start ``program`` and wait for its socket in rounds. Raises ``TimeoutError``.

        Without ``environ`` its environment is empty, as that of an agent that systemd started.
        """
        if wait_for:
            self.outside(wait_for).unlink(missing_ok=True)
        command = [str(BIN / program)] if isinstance(program, str) else list(program)
        process = await asyncio.create_subprocess_exec(
            "nsenter", f"--mount=/proc/{self.namespace}/ns/mnt",
            f"--root=/proc/{self.namespace}/root", *command, *arguments,
            env=dict(environ or {}),
            stdin=self.console.guest, stdout=self.console.guest, stderr=self.console.guest,
        )  # fmt: skip
        self.started.append(process)
        if wait_for:
            await self._wait(wait_for)
        return process

    async def _wait(self, path: str) -> None:
        for _ in range(TIMEOUT_ROUNDS):
            await asyncio.sleep(ROUND_SECONDS)
            if self.outside(path).exists():
                return
        raise TimeoutError(f"{path} did not appear: {self.console.read().decode()}")

    async def connect(self, path: str = HUB_SOCKET) -> Client:
        """Make the one connection. A socket that is there and does not answer is fatal."""
        return await Client.connect(str(self.outside(path)))

    async def end(self) -> None:
        """The guest is shut down: nobody asks the programs."""
        for process in self.started:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def kata_agent(
    tsm: TsmProcess,
    folder: Path,
    *,
    command_line: str = "",
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[KataAgent]:
    """Boot the guest: its namespace and its agent. Everything is gone afterwards."""
    (folder / "cmdline").write_text(f"console=hvc0 {command_line}\n")
    holder = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "--propagation", "private", "sh", "-c", SETUP, "sh",
        str(tsm.report_root), str(tsm.measurements), str(tsm.ccel), str(folder / "cmdline"),
        stdin=PIPE, stdout=PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert await holder.stdout.readline() == b"ready\n"
        async with Console.open() as console:
            agent = KataAgent(holder.pid, console)
            try:
                yield agent
            finally:
                await agent.end()
    finally:
        holder.stdin.close()
        await holder.wait()
