"""The stage: a harness, the real daemon as a child process, and the clients people use."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mocktee.harness import Harness
from ttrpc import Client

READY_SECONDS = 15.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command line client printed, and its exit code."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace").strip()


async def run(*command: str, stdin: bytes | None = None) -> Finished:
    """Run a program to its end. Cancellation kills it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate(stdin)
    except BaseException:  # cleaned up and passed on, cancellation included
        process.kill()
        raise
    return Finished(process.returncode or 0, out, err.decode(errors="replace").strip())


class Daemon:
    """``cguestd`` as a child process, ready when it says so through ``NOTIFY_SOCKET``."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @classmethod
    async def start(cls, config: Path, folder: Path, *more: str) -> Daemon:
        """Raises ``TimeoutError`` or ``RuntimeError`` (with the log) if it does not get ready."""
        notify = folder / "notify.sock"
        notify.unlink(missing_ok=True)
        log = folder / "cguestd.log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, log.open("ab") as out:
            listener.bind(str(notify))
            listener.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cguestd", "-c", str(config), *more,
                stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, "NOTIFY_SOCKET": str(notify)},
            )  # fmt: skip
            daemon = cls(process, log)
            ready = asyncio.create_task(asyncio.get_running_loop().sock_recv(listener, 64))
            ended = asyncio.create_task(process.wait())
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
                ended.cancel()
            if process.returncode is not None:
                raise RuntimeError(f"cguestd ended at start: {log.read_text()[-2000:]}")
        return daemon

    async def stop(self) -> int:
        """SIGTERM, as systemd does; returns the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()


@dataclass(slots=True)
class Stage:
    """Everything the story plays on."""

    folder: Path
    harness: Harness
    config: Path
    daemon: Daemon
    agent_socket: Path
    hub_socket: Path
    rest_port: int

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        latency: float = 1.0,
        tls: bool = True,
        log_level: str = "warning",
        cache_seconds: float = 0.0,
        token_seconds: int = 300,
        fast_etags: bool = False,
    ) -> AsyncIterator[Stage]:
        """Start harness and daemon in a temporary folder; everything is gone afterwards.

        ``latency`` is the time of a quote in seconds, ``cache_seconds`` how long the hub may keep
        resources, ``token_seconds`` the life of a KBS token;
        ``fast_etags`` spares the OSS server its MD5, for measuring clients.
        """
        async with AsyncExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="cguest-demo-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            harness = await stack.enter_async_context(
                Harness.start(
                    folder / "harness",
                    latency=latency,
                    tls=tls,
                    token_seconds=token_seconds,
                    fast_etags=fast_etags,
                )
            )
            run_folder = folder / "run"
            run_folder.mkdir()
            config = folder / "cguest.toml"
            port = free_port()
            harness.write_config(
                config,
                run_folder,
                rest_bind=f"127.0.0.1:{port}",
                log_level=log_level,
                cache_seconds=cache_seconds,
            )
            stage = cls(
                folder, harness, config, await Daemon.start(config, folder),
                run_folder / "attestation-agent.sock", run_folder / "cdh.sock", port,
            )  # fmt: skip
            stack.push_async_callback(stage.stop)
            yield stage

    async def stop(self) -> int:
        """Stop the daemon that runs now, whichever it is."""
        return await self.daemon.stop()

    async def restart(self) -> None:
        """A new daemon with the same configuration and a new, empty memory."""
        await self.daemon.stop()
        self.daemon = await Daemon.start(self.config, self.folder)

    async def cguest(self, *arguments: str, stdin: bytes | None = None) -> Finished:
        """The operator's command line against this stage's daemon."""
        command = (sys.executable, "-m", "cguest", "-c", str(self.config), *arguments)
        return await run(*command, stdin=stdin)

    async def curl(self, path: str) -> Finished:
        """A workload's request to the REST server on loopback."""
        return await run("curl", "-sS", "--max-time", "20", self.rest_url + path)

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    async def agent(self) -> Client:
        """A ttRPC connection to the attestation agent, as kata-agent's peers make it."""
        return await Client.connect(str(self.agent_socket), timeout_s=5.0)

    async def hub(self) -> Client:
        """The one connection kata-agent keeps to the data hub."""
        return await Client.connect(str(self.hub_socket), timeout_s=5.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
