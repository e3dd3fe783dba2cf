"""Connecting to a server that has no room in its backlog for the moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ttrpc import Client, DeadlineError


@pytest.fixture
def full(tmp_path: Path) -> Iterator[socket.socket]:
    """A listening socket whose backlog is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "server.sock"))
        listening.listen(0)
        waiting: list[socket.socket] = []
        try:
            while True:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                waiting.append(sock)
                try:
                    sock.connect(listening.getsockname())
                except BlockingIOError:
                    break
            yield listening
        finally:
            for sock in waiting:
                sock.close()


async def test_a_full_backlog_is_waited_out(full: socket.socket) -> None:
    connecting = asyncio.create_task(Client.connect(full.getsockname(), timeout_s=30))
    await asyncio.sleep(0)
    assert not connecting.done()
    accepted = [full.accept()[0]]
    async with await connecting as client:
        assert client.is_connected
    for sock in accepted:
        sock.close()


async def test_a_backlog_that_stays_full_ends_in_the_deadline(full: socket.socket) -> None:
    with pytest.raises(DeadlineError):
        await Client.connect(full.getsockname(), timeout_s=0.05)
