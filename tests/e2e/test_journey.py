"""What the product promises, as a user sees it: real processes, real sockets, real mounts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from demo.mounting import mounted_bucket, sealed_oss_keys
from demo.stage import Daemon, Stage
from protos.stubs import AttestationStatusStub, GetResourceStub, MountStub

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _session(stage: Stage) -> dict[str, object]:
    done = await stage.cguest("-o", "json", "attest")
    assert done.code == 0, done.err
    session: dict[str, object] = json.loads(done.out)
    return session


async def test_ten_secrets_at_once_cost_one_quote_and_one_handshake(stage: Stage) -> None:
    # A new daemon has no session: everything that follows shares its first handshake.
    await stage.restart()
    for number in range(10):
        await stage.harness.put_resource(f"e2e/batch/{number}", b"%d" % number)
    before = await stage.harness.quotes_made()

    async with await stage.hub() as client:
        stub = GetResourceStub(client)
        replies = await asyncio.gather(
            *(stub.get_resource(f"kbs:///e2e/batch/{n}", timeout_s=50) for n in range(10))
        )

    assert [reply.Resource for reply in replies] == [b"%d" % n for n in range(10)]
    assert await stage.harness.quotes_made() - before == 1
    session = await _session(stage)
    assert (session["handshakes"], session["quotes_taken"]) == (1, 1)


async def test_a_denied_resource_costs_no_further_quote(stage: Stage) -> None:
    await _session(stage)
    await stage.harness.put_resource("e2e/denied/1", b"never seen")
    before = await stage.harness.quotes_made()
    await stage.harness.kbs.add_fault(
        kind="refuse", status=401, type="PolicyDeny", detail="Access denied by policy",
        path="/kbs/v0/resource/e2e/denied", count=1,
    )  # fmt: skip
    for name in ("denied", "missing"):
        refused = await stage.cguest("resource", "get", f"kbs:///e2e/{name}/1")
        assert refused.code == 1, refused.err
        assert ("PolicyDeny" if name == "denied" else "resource missing") in refused.err
    assert await stage.harness.quotes_made() == before


async def test_a_token_the_kbs_calls_bad_is_replaced_exactly_once(stage: Stage) -> None:
    await _session(stage)
    await stage.harness.put_resource("e2e/bad/token", b"value")
    before = await stage.harness.quotes_made()
    await stage.harness.kbs.add_fault(
        kind="refuse", status=401, type="TokenVerifierError", detail="Token Verifier error",
        path="/kbs/v0/resource", count=1,
    )  # fmt: skip
    done = await stage.cguest("resource", "get", "kbs:///e2e/bad/token")
    assert (done.code, done.out) == (0, b"value"), done.err
    assert await stage.harness.quotes_made() == before + 1


async def test_every_door_gives_the_same_bytes(stage: Stage) -> None:
    want = bytes(range(256))
    await stage.harness.put_resource("e2e/doors/1", want)
    async with await stage.hub() as client:
        reply = await GetResourceStub(client).get_resource("kbs:///e2e/doors/1", timeout_s=50)
    assert reply.Resource == want
    assert (await stage.curl("/cdh/resource/e2e/doors/1")).out == want
    assert (await stage.cguest("resource", "get", "kbs:///e2e/doors/1")).out == want


async def test_a_measured_event_keeps_the_guest_attestable(stage: Stage) -> None:
    done = await stage.cguest(
        "measurement", "extend", "--domain", "e2e.example", "--operation", "Ran",
        "--content", "once",
    )  # fmt: skip
    assert done.code == 0, done.err
    again = await stage.cguest("attest", "--force")
    assert again.code == 0, again.err


async def test_evidence_and_its_quote_can_be_read_by_a_person(stage: Stage, tmp_path: Path) -> None:
    evidence = await stage.cguest("evidence", "get", "--runtime-data", "hello")
    assert evidence.code == 0, evidence.err
    file = tmp_path / "evidence.json"
    file.write_bytes(evidence.out)
    shown = await stage.cguest("-o", "json", "quote", "inspect", str(file))
    body = json.loads(shown.out)["body"]
    assert body["report_data"].startswith(b"hello".hex())
    assert set(body) >= {"mr_td", "mr_config_id", "rt_mr0", "rt_mr3", "td_attributes"}


async def test_status_and_doctor_agree_that_all_is_well(stage: Stage) -> None:
    await _session(stage)
    status = await stage.cguest("-o", "json", "status")
    assert status.code == 0
    assert json.loads(status.out)["session"] == "attested"
    assert (await stage.cguest("doctor")).code == 0


async def test_a_killed_mount_process_is_reported_and_replaced(stage: Stage) -> None:
    async with mounted_bucket(stage) as mount, await stage.hub() as client:
        stub = MountStub(client)
        os.kill(mount.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while True:
                (now,) = (await stub.list_mounts(timeout_s=10)).mounts
                if now.state == "mounted" and now.pid != mount.pid:
                    break
                await asyncio.sleep(0.05)
        assert now.restarts == 1
        assert "signal 9" in now.last_error
        assert "hello.txt" in await asyncio.to_thread(os.listdir, mount.point)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_the_end_of_the_daemon_leaves_no_mount_process_or_upload(
    stage: Stage, end: signal.Signals
) -> None:
    key_id, key = await sealed_oss_keys(stage)
    point = stage.folder / "mnt" / "end"
    done = await stage.cguest(
        "mount", "oss", stage.harness.bucket, str(point), "--url", stage.harness.oss_endpoint,
        "--ak-id", key_id, "--ak-secret", key, "--other-opts",
        f"-o use_path_request_style,region={stage.harness.oss_region}",
    )  # fmt: skip
    assert done.code == 0, done.err
    listed = await stage.cguest("-o", "json", "mount", "list")
    pid = int(json.loads(listed.out)["mounts"][0]["pid"])
    child = os.pidfd_open(pid)

    os.kill(stage.daemon.pid, end)
    code = await stage.daemon.process.wait()
    async with asyncio.timeout(20):
        await _readable(child)
    os.close(child)

    assert code == (0 if end is signal.SIGTERM else -signal.SIGKILL)
    assert str(point) not in Path("/proc/self/mountinfo").read_text()
    assert not await stage.harness.open_uploads()
    stage.daemon = await Daemon.start(stage.config, stage.folder)


async def _readable(fd: int) -> None:
    """A pidfd becomes readable when its process has ended."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(fd, ended.set_result, None)
    try:
        await ended
    finally:
        loop.remove_reader(fd)


async def test_the_session_is_renewed_in_the_background(tmp_path: Path) -> None:
    async with Stage.open(latency=0.0, token_seconds=3) as stage, await stage.agent() as client:
        stub = AttestationStatusStub(client)
        first = await stub.attest(timeout_s=20)
        async with asyncio.timeout(20):
            while (await stub.get_status(timeout_s=5)).handshakes == first.handshakes:
                await asyncio.sleep(0.05)
        renewed = await stub.get_status(timeout_s=5)
    assert renewed.session == "attested"
    assert renewed.session_expires_unix > first.session_expires_unix
