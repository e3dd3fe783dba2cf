"""``api-server-rest`` as a process: flags, exit codes, start without backends, orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from demo.stage import free_port
from tests.conftest import ROOT
from tests.services.rest_process import get


async def start(*arguments: str, before: Sequence[str] = ()) -> asyncio.subprocess.Process:
    """``before`` is a program that starts this one in another way."""
    return await asyncio.create_subprocess_exec(
        *before, sys.executable, "-m", "rest", *arguments,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_it_starts_without_backends_and_stops_in_order() -> None:
    port = free_port()
    process = await start(
        "-b", f"127.0.0.1:{port}", "-f", "all", "-c", "unix:///none/cdh", "-a", "unix:///none/aa"
    )
    try:
        answer = await get(port, "/cdh/resource/a/b/c")
        assert b"ttrpc connect to CDH addr: unix:///none/cdh failed: " in answer
        answer = await get(port, "/aa/token?token_type=kbs")
        assert b"ttrpc connect to Attestation Agent addr: unix:///none/aa failed: " in answer
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--features", "everything"), b"features: 'everything' is unknown"),
        (("--bind", "0.0.0.0:8006"), b"0.0.0.0 is not a loopback address"),
        (("--bind", "8006"), b"not ADDRESS:PORT"),
        (("--cdh_addr", "/x"), b"not a unix socket address"),
        (("--aa_addr", "tcp://x"), b"not a unix socket address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_what_cannot_work_is_named(arguments: tuple[str, ...], problem: bytes) -> None:
    process = await start(*arguments)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert problem in errors
    assert errors.count(b"\n") == 1


async def test_wrong_usage_is_2() -> None:
    process = await start("--log-level", "loud")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"choose from" in errors


async def test_clients_that_send_no_http_are_answered_and_fill_no_log() -> None:
    port = free_port()
    process = await start("-b", f"127.0.0.1:{port}")
    try:
        await get(port, "/livez")
        for sent in (
            b"garbage\r\n\r\n",
            b"\x16\x03\x01\x00\xee\x01",
            b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            assert (await reader.read()).startswith(b"HTTP/1.0 400 Bad Request\r\n")
            writer.close()
    finally:
        process.send_signal(signal.SIGTERM)
    _, errors = await process.communicate()
    assert errors == b""


FROM_OUTSIDE = """
ip link set lo up
ip address add 192.0.2.1/32 dev lo
{python} -m rest -b 127.0.0.1:8006 -f all & rest=$!
trap 'kill $rest; wait $rest' EXIT
curl -s --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:8006/livez
curl -s -w ' %{{http_code}}' --interface 192.0.2.1 http://127.0.0.1:8006/livez
"""


async def test_who_is_not_on_loopback_is_forbidden() -> None:
    """In a network of its own, where a client has another address of this machine."""
    process = await asyncio.create_subprocess_exec(
        "unshare", "-n", "sh", "-euc", FROM_OUTSIDE.format(python=sys.executable),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out == b'{"status":"alive"}Forbidden 403'


@pytest.mark.parametrize("powerful", [True, False], ids=["with the power", "without"])
async def test_a_server_that_cannot_tell_containers_apart_says_so_once(
    tmp_path: Path, powerful: bool
) -> None:
    config = tmp_path / "rest.toml"
    config.write_text(
        f'socket = "unix://{tmp_path}/rest.sock"\n[[rules]]\nname = "all"\nwho = "anyone"\n'
    )
    without = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    port = free_port()
    arguments = ("-b", f"127.0.0.1:{port}", "--config", str(config))
    process = await start(*arguments, before=() if powerful else without)
    try:
        assert b"alive" in await get(port, "/livez")
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = await process.communicate()
    assert process.returncode == 0
    assert stderr.count(b"systemd/cguestd-callers.conf") == (0 if powerful else 1)
