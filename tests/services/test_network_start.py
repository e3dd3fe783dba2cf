"""Before the network: attempts that cannot leave the guest, and the moment when they can.

In network namespaces of their own, whose only interface the test brings up itself.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs import KbsTimeoutError, KbsUnreachableError, RetryPolicy
from kbs.retry import Retrier
from lifecycle.routes import RTM_NEWADDR, RTM_NEWROUTE, RouteEvents, brings_way
from tests.conftest import ROOT
from tests.rules.virtual_time import VirtualTime

ISOLATED = ("unshare", "--net", "--mount")

UP = """
import fcntl, socket, struct
def up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
"""

GUEST = (
    UP
    + """
import asyncio, json, sys, uvloop
from kbs import KbsClient, KbsLimits, RetryPolicy
from lifecycle import RouteEvents
from tests.services.fake_kbs import running
from tests.services.kbs_client_parts import Attester

async def main():
    # On every address: its own is not there yet.
    async with RouteEvents() as routes, running(host="0.0.0.0", port=8080) as kbs:
        # Pauses of hours: only the news can end them in time.
        slow = RetryPolicy(attempts=2, first_seconds=9000.0, cap_seconds=9000.0)
        waiting = asyncio.Event()
        async def pause(seconds):
            waiting.set()
            await routes.sleep(seconds)
        async with KbsClient(
            "http://127.0.0.1:8080", retries=slow, network_sleep=pause,
            limits=KbsLimits(operation_seconds=100000.0),
        ) as client:
            attesting = asyncio.create_task(client.handshake(Attester()))
            await waiting.wait()
            up()
            await attesting
            print(json.dumps({"requests": kbs.targets()}))

uvloop.run(main())
"""
)

RESOLVER = (
    UP
    + """
import asyncio, json, socket, struct, subprocess, sys, uvloop
from kbs import KbsClient, KbsUnreachableError, RetryPolicy
from tests.services.fake_kbs import running
from tests.services.kbs_client_parts import Attester

folder = sys.argv[1]
once = RetryPolicy(attempts=1, wait_for_network=False)

class Dns(asyncio.DatagramProtocol):
    def connection_made(self, transport): self.transport = transport
    def datagram_received(self, data, peer):
        end = data.index(b"\\0", 12) + 5
        is_a = data[end - 4:end - 2] == b"\\0\\1"
        answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4" + socket.inet_aton("127.0.0.1")
        head = data[:2] + b"\\x81\\x80\\0\\1" + (b"\\0\\1" if is_a else b"\\0\\0") + bytes(4)
        self.transport.sendto(head + data[12:end] + (answer if is_a else b""), peer)

def resolv(address):
    with open(f"{folder}/resolv.conf", "w") as file:
        file.write(f"nameserver {address}\\noptions attempts:1 timeout:1\\n")

async def main():
    up()
    resolv("127.0.0.9")  # nobody answers there
    subprocess.run(["mount", "--bind", f"{folder}/resolv.conf", "/etc/resolv.conf"], check=True)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Dns, local_addr=("127.0.0.2", 53))
    async with running(port=8080) as kbs, KbsClient(
        "http://kbs.test:8080", retries=once
    ) as client:
        try:
            await client.handshake(Attester())
            before = "answered"
        except KbsUnreachableError as error:
            before = "no network" if error.no_network else str(error)
        resolv("127.0.0.2")  # as kata-agent writes it when the pod's DNS is known
        await client.handshake(Attester())
        print(json.dumps({"before": before, "requests": len(kbs.seen)}))

uvloop.run(main())
"""
)


def _isolated(program: str, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [*ISOLATED, sys.executable, "-c", program, *arguments],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])  # after the log
    return answer


def test_a_handshake_waits_for_the_network_and_no_longer() -> None:
    answer = _isolated(GUEST)
    assert answer == {"requests": ["POST /kbs/v0/auth", "POST /kbs/v0/attest"]}


def test_a_changed_resolv_conf_is_read(tmp_path: Path) -> None:
    assert _isolated(RESOLVER, str(tmp_path)) == {"before": "no network", "requests": 2}


class Network:
    """An operation that fails in the guest until the network is there, and outside of it after."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tried = 0

    async def __call__(self) -> str:
        self.tried += 1
        if self.tried <= self.failures:
            raise KbsUnreachableError("no route", no_network=True)
        raise KbsTimeoutError(1.0)


@pytest.mark.parametrize(("waits", "tried"), [(True, 45), (False, 5)], ids=["waits", "counts"])
async def test_attempts_that_stay_here_do_not_count(waits: bool, tried: int) -> None:
    time = VirtualTime()
    policy = RetryPolicy(wait_for_network=waits)
    network = Network(failures=40)
    retrier = Retrier(policy, clock=time.clock, sleep=time.sleep)
    run = asyncio.create_task(retrier.run(network, time.now + 1e6))
    await time.advance(1e5)
    error = run.exception()
    assert isinstance(error, KbsTimeoutError if waits else KbsUnreachableError)
    assert network.tried == tried


async def test_the_deadline_ends_the_wait_for_a_network() -> None:
    time = VirtualTime()
    network = Network(failures=10**6)
    retrier = Retrier(RetryPolicy(), clock=time.clock, sleep=time.sleep)
    run = asyncio.create_task(retrier.run(network, time.now + 45))
    await time.advance(46)
    error = run.exception()
    assert isinstance(error, KbsUnreachableError)
    assert error.attempts == network.tried


async def test_only_a_failed_connection_is_cut_short_by_the_network() -> None:
    """A pause that the KBS asked for is kept."""
    time = VirtualTime()
    slept: list[str] = []

    async def other(seconds: float) -> None:
        slept.append("network")

    async def plain(seconds: float) -> None:
        slept.append("plain")

    network = Network(failures=2)
    retrier = Retrier(RetryPolicy(attempts=3), clock=time.clock, sleep=plain, network_sleep=other)
    with pytest.raises(KbsTimeoutError):
        await retrier.run(network, time.now + 100)
    assert slept == ["network", "network", "plain", "plain"]


async def test_a_sleep_without_news_ends_by_itself() -> None:
    async with RouteEvents() as routes:
        await routes.sleep(0.01)
    assert not routes._sleepers


def _message(kind: int, payload: bytes = b"") -> bytes:
    return (
        struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload + bytes(-len(payload) % 4)
    )


@pytest.mark.parametrize(
    ("content", "brings"),
    [
        pytest.param(_message(RTM_NEWROUTE), True, id="route"),
        pytest.param(_message(RTM_NEWADDR, b"12345"), True, id="address"),
        pytest.param(_message(25) + _message(16, b"abc") + _message(24), True, id="third"),
        pytest.param(_message(25), False, id="route gone"),
        pytest.param(b"", False, id="empty"),
        pytest.param(bytes(64), False, id="length zero"),
        pytest.param(_message(25)[:-1], False, id="cut"),
    ],
)
def test_messages_of_the_kernel(content: bytes, brings: bool) -> None:
    assert brings_way(content) is brings


@given(st.binary(max_size=300))
def test_any_bytes_are_judged_by_what_is_in_them(content: bytes) -> None:
    assert brings_way(_message(25) + content) is brings_way(content)
    assert brings_way(_message(RTM_NEWADDR) + content)
