"""The fault switches of the mock KBS, and the mock KBS as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.exceptions import InvalidTag

from mocktee.kbs import KbsProcess, MockKbs
from mocktee.kbs.__main__ import options_of, parse_arguments
from mocktee.kbs.errors import ControlError, FaultFormatError, MalformedError, StartError
from mocktee.kbs.faults import (
    Corrupt,
    Cut,
    ExpiredToken,
    Fault,
    FaultPlan,
    NeverEndingBody,
    Redirect,
    Refuse,
    Slow,
    Status,
    Throttle,
    WrongSize,
)
from tests.services import kbs_pair
from tests.services.kbs_guest import Guest, unb64u
from tests.services.kbs_pair import PATH, PKI, SECRET

RESOURCE = "/kbs/v0/resource/"

kbs = kbs_pair.kbs


@pytest.fixture
async def guest(kbs: MockKbs) -> AsyncIterator[Guest]:
    async with Guest(kbs.url, PKI) as guest:
        await guest.handshake()
        yield guest


@pytest.mark.parametrize(
    ("fault", "status", "headers"),
    [
        (Refuse(), 401, {}),
        (Refuse(status=404, type="PluginNotFound"), 404, {}),
        (Status(403), 403, {}),
        (Status(404), 404, {}),
        (Status(413), 413, {}),
        (Status(500), 500, {}),
        (Status(503), 503, {}),
        (Throttle(retry_after=7), 429, {"Retry-After": "7"}),
        (
            Redirect("https://elsewhere.localhost/"),
            307,
            {"Location": "https://elsewhere.localhost/"},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fault) else str(value),
)
async def test_answers_in_place_of_ours(
    kbs: MockKbs, guest: Guest, fault: Fault, status: int, headers: dict[str, str]
) -> None:
    kbs.faults.add(fault, path=RESOURCE)
    answer = await guest.call("GET", PATH)
    assert answer.status == status
    assert headers.items() <= dict(answer.headers).items()
    assert (answer.status == 401) <= (b"errors/AttestationError" in answer.body)
    assert guest.open(await guest.call("GET", PATH)) == SECRET  # once, then over
    assert (kbs.counters.faults_played, len(kbs.faults)) == (1, 0)


async def test_slow_holds_up_one_request_and_no_other(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(Slow(seconds=3600), path=RESOURCE)
    held_up = asyncio.create_task(guest.call("GET", PATH))  # cancelled below
    while not kbs.counters.faults_played:
        await asyncio.sleep(0)
    assert guest.open(await guest.call("GET", PATH)) == SECRET
    assert not held_up.done()
    held_up.cancel()
    await asyncio.wait([held_up])


async def test_slow_answers_right_in_the_end(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(Slow(seconds=0.01), path=RESOURCE)
    assert guest.open(await guest.call("GET", PATH)) == SECRET


async def test_cut_ends_inside_the_body(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(Cut(), path=RESOURCE)
    with pytest.raises(aiohttp.ClientPayloadError):
        await guest.call("GET", PATH)
    assert guest.open(await guest.call("GET", PATH)) == SECRET


@pytest.mark.parametrize("secret", [SECRET, b""], ids=["ciphertext", "tag of nothing"])
async def test_corrupt_is_still_a_well_formed_jwe(
    kbs: MockKbs, guest: Guest, secret: bytes
) -> None:
    kbs.put_resource("default/key/1", secret)
    kbs.faults.add(Corrupt(), path=RESOURCE)
    answer = await guest.call("GET", PATH)
    assert list(answer.json()) == ["protected", "encrypted_key", "iv", "ciphertext", "tag"]
    with pytest.raises(InvalidTag):
        guest.open(answer)


async def test_corrupt_changes_one_byte_of_other_bodies(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(Corrupt(), path="/kbs/v0/attest")
    answer = await guest.call("POST", "/kbs/v0/attest", guest.attestation())
    good = json.dumps({"token": guest.token}, separators=(",", ":")).encode()
    assert len(answer.body) == len(good)
    assert sum(a != b for a, b in zip(answer.body, good, strict=True)) == 1


async def test_body_of_wrong_size(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(WrongSize(size=300_000), path=RESOURCE)
    answer = await guest.call("GET", PATH)
    assert len(answer.body) == 300_000 == int(answer.headers["Content-Length"])
    assert guest.open(answer) == SECRET


@pytest.mark.parametrize(("part", "size"), [("iv", 11), ("tag", 15), ("encrypted_key", 39)])
async def test_part_of_wrong_size(kbs: MockKbs, guest: Guest, part: str, size: int) -> None:
    kbs.faults.add(WrongSize(part=part), path=RESOURCE)
    answer = await guest.call("GET", PATH)
    assert len(unb64u(answer.json()[part])) == size


async def test_expired_token_waits_for_attest(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(ExpiredToken())
    await guest.handshake()
    assert guest.claims()["exp"] < kbs.options.clock() - 60
    assert (await guest.call("GET", PATH)).problem == "TokenVerifierError"
    await guest.handshake()
    assert guest.open(await guest.call("GET", PATH)) == SECRET


async def test_never_ending_body_goes_on_until_the_client_leaves(
    kbs: MockKbs, guest: Guest
) -> None:
    kbs.faults.add(NeverEndingBody(), path=RESOURCE)
    headers = {"Cookie": f"kbs-session-id={guest.cookie}"}
    async with aiohttp.ClientSession() as http, http.get(kbs.url + PATH, headers=headers) as got:
        assert got.headers["Transfer-Encoding"] == "chunked"
        assert len(await got.content.readexactly(1_000_000)) == 1_000_000
    assert guest.open(await guest.call("GET", PATH)) == SECRET


async def test_control_is_never_played_upon(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(Status(500), path="/", count=None)
    assert (await guest.auth()).status == 500
    answer = await guest.call("DELETE", "/mock/faults", bearer=kbs.admin_token)
    assert (answer.status, len(kbs.faults)) == (200, 0)


async def test_part_of_wrong_size_leaves_other_answers(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(WrongSize(part="iv"))
    assert (await guest.auth()).status == 200


async def test_counts_and_prefixes(kbs: MockKbs, guest: Guest) -> None:
    kbs.faults.add(Status(500), path="/kbs/v0/auth", count=2)
    assert (await guest.call("GET", PATH)).status == 200
    assert [(await guest.auth()).status for _ in range(3)] == [500, 500, 200]
    kbs.faults.add(Status(503), count=None)
    assert [(await guest.auth()).status for _ in range(3)] == [503, 503, 503]
    kbs.faults.clear()
    assert (await guest.auth()).status == 200


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ({"kind": "slow", "seconds": 2}, Slow(2)),
        ({"kind": "slow", "seconds": 0.5, "count": None, "path": "/"}, Slow(0.5)),
        ({"kind": "cut"}, Cut()),
        ({"kind": "corrupt"}, Corrupt()),
        ({"kind": "refuse", "status": 401, "type": "PolicyDeny"}, Refuse(401, "PolicyDeny")),
        ({"kind": "status", "status": 500}, Status(500)),
        ({"kind": "throttle", "retry_after": 3}, Throttle(3)),
        ({"kind": "wrong_size", "part": "iv"}, WrongSize("iv")),
        ({"kind": "expired_token"}, ExpiredToken()),
        ({"kind": "never_ending_body"}, NeverEndingBody()),
        ({"kind": "redirect", "location": "/x"}, Redirect("/x")),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_json_forms(form: dict[str, Any], fault: Fault) -> None:
    plan = FaultPlan()
    plan.add_json(form)
    assert plan.take("/kbs/v0/attest") == [fault]
    assert len(plan) == (1 if "count" in form else 0)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"kind": "nosuch"},
        {"kind": "slow", "minutes": 1},
        {"kind": "slow", "seconds": "1"},
        {"kind": "status", "status": 500.5},
        {"kind": "status", "status": True},
        {"kind": "cut", "count": 0},
        {"kind": "cut", "count": 1.5},
        {"kind": "cut", "path": 1},
        {"kind": "wrong_size", "part": "nosuch"},
    ],
    ids=str,
)
def test_json_forms_that_are_refused(form: dict[str, Any]) -> None:
    with pytest.raises(FaultFormatError):
        FaultPlan().add_json(form)


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
async def test_process(tmp_path: Path, tls: bool) -> None:
    PKI.save(tmp_path / "pki")
    async with await KbsProcess.start(
        tmp_path / "state", tmp_path / "pki", tls=tls, token_seconds=77
    ) as kbs:
        assert kbs.url.startswith("https://" if tls else "http://")
        assert (kbs.ca_file is not None) is tls
        await kbs.put_resource("default/key/1", SECRET)
        ca = str(kbs.ca_file) if tls else None
        async with Guest(kbs.url, PKI, ca=ca) as guest:
            await guest.handshake()
            claims = guest.claims()
            assert claims["exp"] - claims["iat"] == 77
            assert guest.open(await guest.call("GET", PATH)) == SECRET
            await kbs.set_resource_policy("package policy\nallow := false")
            assert (await guest.call("GET", PATH)).problem == "PolicyDeny"
            await kbs.set_reference_values(mr_td=["00" * 48])
            await guest.auth()
            assert "reference value mr_td: got" in (await guest.attest()).detail
            await kbs.add_fault(kind="status", status=500, path="/kbs/v0/auth")
            assert (await guest.auth()).status == 500
        state = await kbs.state()
        assert state["quotes_seen"] == 2
        assert state["resources"] == {"requests": 2, "served": 1}
        with pytest.raises(ControlError, match="unknown member 'x'"):
            await kbs.add_fault(kind="cut", x=1)
        await kbs.delete_resource("default/key/1")
        await kbs.clear_faults()


async def test_process_ends_cleanly_on_sigterm_and_with_its_parent(tmp_path: Path) -> None:
    PKI.save(tmp_path / "pki")
    command = (sys.executable, "-m", "mocktee.kbs", "--no-tls", "--lifeline-fd", "0")
    paths = ("--state", str(tmp_path / "state"), "--pki", str(tmp_path / "pki"))
    for end in ("signal", "lifeline"):
        child = await asyncio.create_subprocess_exec(
            *command,
            *paths,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdin is not None
        ready = json.loads(await child.stdout.readline())
        assert ready["ready"] is True
        assert ready["ca"] is None
        if end == "signal":
            child.send_signal(signal.SIGTERM)
        else:
            child.stdin.close()
        _, stderr = await child.communicate()
        assert (child.returncode, stderr) == (0, b"")


async def test_process_that_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="expected its ready line"):
        await KbsProcess.start(tmp_path / "state", tmp_path / "absent")


@pytest.mark.parametrize("listen", ["nonsense", ":80", "127.0.0.1:x"])
def test_addresses_that_are_none(listen: str) -> None:
    arguments = parse_arguments(["--state", "s", "--pki", "p", "--listen", listen])
    with pytest.raises(MalformedError, match="is not of the form HOST:PORT"):
        options_of(arguments)
