"""``api-server-rest`` as a child process: starting it, and asking it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.stage import free_port
from tests.conftest import ROOT

READY_SECONDS = 20.0


@dataclass(frozen=True)
class RestProcess:
    """Serves on loopback until the context is left, and ends in order then."""

    url: str
    process: subprocess.Popen[bytes]

    @classmethod
    @contextmanager
    def start(
        cls, *arguments: str, backends: Path, descriptors: int | None = None
    ) -> Iterator[RestProcess]:
        """Ready when this returns. ``backends`` is the socket of agent and hub.

        ``descriptors`` is how many the process may have.
        """
        limit = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}:{descriptors}"]
        port = free_port()
        notify = backends.with_name("notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(notify))
            told.settimeout(READY_SECONDS)
            process = subprocess.Popen(
                [*limit, sys.executable, "-m", "rest", "-b", f"127.0.0.1:{port}",
                 "-c", f"unix://{backends}", "-a", f"unix://{backends}", *arguments],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
                     "NOTIFY_SOCKET": str(notify)},
            )  # fmt: skip
            try:
                assert b"READY=1" in told.recv(256)
                yield cls(f"http://127.0.0.1:{port}", process)
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait()
                notify.unlink()
        assert code == 0


async def get(port: int, target: str) -> bytes:
    """Ask until somebody listens."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        await asyncio.sleep(0.02)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer
