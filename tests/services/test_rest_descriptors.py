"""A server with few file descriptors serves on, however many connect and wait."""

from __future__ import annotations

import resource
import socket
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from rest import descriptors
from tests.services.rest_process import RestProcess


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """The limit as the kernel would have it: soft and hard."""
    held = {"limit": (1024, 1024)}

    def set_limit(_which: int, limit: tuple[int, int]) -> None:
        assert limit[0] <= held["limit"][1] or held["limit"][1] == resource.RLIM_INFINITY
        held["limit"] = limit

    monkeypatch.setattr(resource, "getrlimit", lambda _: held["limit"])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    return held


@pytest.mark.parametrize(
    ("limit", "per_connection", "connections", "raised"),
    [
        ((10_000, 10_000), 3, 1024, 10_000),
        ((1024, 524_288), 3, 1024, 512 + 3 * 1024),
        ((1024, resource.RLIM_INFINITY), 1, 1024, 1536),
        ((1024, 1024), 1, 512, 1024),
        ((1024, 1024), 3, 170, 1024),
        ((256, 256), 1, 128, 256),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 3, 1024, resource.RLIM_INFINITY),
    ],
)
def test_room(
    room: dict[str, tuple[int, int]],
    limit: tuple[int, int],
    per_connection: int,
    connections: int,
    raised: int,
) -> None:
    room["limit"] = limit
    assert descriptors.connections_with_room(1024, per_connection) == connections
    assert room["limit"] == (raised, limit[1])


def test_a_process_with_few_descriptors_answers_who_asks(tmp_path: Path) -> None:
    with (
        RestProcess.start("-f", "all", backends=tmp_path / "none", descriptors=256) as server,
        ExitStack() as stack,
    ):
        port = int(server.url.rpartition(":")[2])
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with urllib.request.urlopen(f"{server.url}/livez") as answer:
            assert answer.read() == b'{"status":"alive"}'
