"""What nobody has caught ends nothing and shows nothing; a console is never waited for."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap

import pytest

from lifecycle.console import QuietStream
from tests.conftest import ROOT

CANARY = "canary-of-a-secret"
LIMIT_SECONDS = 30


def run_main(body: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    """Run ``body`` as the ``main`` of a service that then stops in good order."""
    program = f"""
import asyncio, gc, os, sys, threading
from lifecycle import run_service
from secrecy.journal import configure_logging, get_logger

async def main(shutdown):
{textwrap.indent(textwrap.dedent(body), "    ")}
    await asyncio.sleep(0)
    get_logger("test").warning("still here")

configure_logging()
sys.exit(run_service(main))
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, check=False, timeout=LIMIT_SECONDS, stdout=subprocess.PIPE, stderr=stderr,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "by"),
    [
        pytest.param(
            f"""
            async def fail():
                raise ValueError("{CANARY}")
            task = asyncio.create_task(fail())
            await asyncio.wait([task])
            del task
            gc.collect()
            """,
            "task",
            id="task",
        ),
        pytest.param(
            f"""
            asyncio.get_running_loop().call_soon(lambda: int("{CANARY}"))
            await asyncio.sleep(0)
            """,
            "task",
            id="callback",
        ),
        pytest.param(
            f"""
            def fail():
                raise MemoryError("{CANARY}")
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            """,
            "thread",
            id="thread",
        ),
        pytest.param(
            f"""
            class Bad:
                def __del__(self):
                    raise KeyError("{CANARY}")
            Bad()
            """,
            "finalizer",
            id="finalizer",
        ),
    ],
)
def test_an_error_that_nobody_catches_is_told_without_its_text(body: str, by: str) -> None:
    done = run_main(body)
    assert done.returncode == 0, done.stderr
    assert f'"by":"{by}"'.encode() in done.stderr
    assert b"still here" in done.stderr
    assert CANARY.encode() not in done.stderr
    assert b"Traceback" not in done.stderr


def test_nothing_is_read_or_printed() -> None:
    done = run_main("print('to nobody', repr(sys.stdin.read()), flush=True)")
    assert (done.returncode, done.stdout) == (0, b"")


def test_closed_standard_streams_are_filled_so_that_no_socket_takes_their_place() -> None:
    body = """
    import socket
    assert socket.socket().fileno() > 2
    """
    command = 'exec 0<&- 1>&- 2>&-; exec "$0" -c "$1"'
    program = (
        "import sys\nfrom lifecycle import run_service\n"
        f"async def main(shutdown):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        "sys.exit(run_service(main))"
    )
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, program], cwd=ROOT, check=False, timeout=LIMIT_SECONDS
    )
    assert done.returncode == 0


def test_a_pipe_without_a_reader_costs_the_line_only() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_main("get_logger('test').error('lost')", stderr=writer)
    finally:
        os.close(writer)
    assert done.returncode == 0


def test_a_full_terminal_is_not_waited_for() -> None:
    host, guest = pty.openpty()
    os.set_blocking(guest, False)
    try:
        stream = QuietStream(guest)
        assert all(stream.write("x" * 100) == 100 for _ in range(2000))
        stream.write("not ascii: \u00e9 \udcff\n")
    finally:
        os.close(host)
        os.close(guest)
    assert stream.write("closed") == len("closed")
