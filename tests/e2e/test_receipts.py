"""What the real daemon leaves receipts of, and that they can be checked elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from demo.mounting import mounted_bucket
from demo.stage import Stage
from protos.stubs import AttestationAgentStub, GetResourceStub, SealedSecretStub
from receipts import (
    Access,
    Act,
    Chain,
    Checkpoint,
    Genesis,
    Stop,
    examine_chain,
    read_directory,
    sealed_sha384,
)
from ttrpc import StatusError

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONTENT = b"the content of this resource"


def _directory(stage: Stage) -> Path:
    return stage.agent_socket.parent / "receipts"


def _chain(stage: Stage) -> Chain:
    chain = examine_chain(read_directory(_directory(stage)))
    assert chain.holds and not chain.lost
    return chain


class Seen:
    """Reads on in the chain: each receipt of an act is told once, in order."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._from = _chain(stage).head.sequence + 1

    async def next(self, act: Act) -> Access:
        """Wait until the writing thread has written the next one."""
        async with asyncio.timeout(10):
            while True:
                for receipt in _chain(self._stage).receipts:
                    body = receipt.body
                    if receipt.sequence < self._from or not isinstance(body, Access):
                        continue
                    if body.act == act:
                        self._from = receipt.sequence + 1
                        return body
                await asyncio.sleep(0.01)


async def test_a_release_names_its_caller_and_never_its_content(stage: Stage) -> None:
    seen = Seen(stage)
    await stage.harness.put_resource("receipts/one/1", CONTENT)
    assert (await stage.cguest("attest", "--force")).code == 0
    handshake = await seen.next("handshake")
    assert handshake.verdict == "allowed"
    assert handshake.subject.resource.startswith("https://")
    async with await stage.hub() as client:
        stub = GetResourceStub(client)
        await stub.get_resource("kbs:///receipts/one/1", timeout_s=50)
        given = await seen.next("release")
        assert (given.verdict, given.subject.resource) == ("allowed", "kbs:///receipts/one/1")
        assert (given.caller.via, given.caller.pid) == ("ttrpc", os.getpid())
        with pytest.raises(StatusError):
            await stub.get_resource("kbs:///receipts/none/1", timeout_s=50)
        refused = await seen.next("release")
        assert (refused.verdict, refused.subject.resource) == ("refused", "kbs:///receipts/none/1")
        assert refused.reason
        with pytest.raises(StatusError):
            await stub.get_resource("not a uri, but maybe a password", timeout_s=50)
        assert (await seen.next("release")).subject.resource == ""
    text = b"".join(read_directory(_directory(stage)))
    assert CONTENT not in text


async def test_rest_and_evidence_and_tokens_leave_receipts(stage: Stage) -> None:
    seen = Seen(stage)
    await stage.harness.put_resource("receipts/rest/1", CONTENT)
    assert (await stage.curl("/cdh/resource/receipts/rest/1")).code == 0
    assert (await seen.next("release")).caller.via == "rest"
    assert (await stage.curl("/aa/evidence?runtime_data=abc")).code == 0
    assert (await seen.next("evidence")).caller.via == "rest"
    async with await stage.agent() as client:
        stub = AttestationAgentStub(client)
        await stub.get_evidence(b"abc", timeout_s=50)
        assert (await seen.next("evidence")).caller.pid == os.getpid()
        await stub.get_token("kbs", timeout_s=50)
        token = await seen.next("token")
        assert (token.verdict, token.subject.resource) == ("allowed", "token of type kbs")
        with pytest.raises(StatusError):
            await stub.get_token("other", timeout_s=50)
        assert (await seen.next("token")).verdict == "failed"


async def test_an_unsealing_names_key_and_sealed_text(stage: Stage, tmp_path: Path) -> None:
    seen = Seen(stage)
    await stage.harness.put_resource("receipts/sealed/1", CONTENT)
    kid = "kbs:///receipts/signing/1"
    assert (
        await stage.cguest("secret", "keygen", "--kid", kid, "--directory", str(tmp_path))
    ).code == 0
    public = (tmp_path / "sealed-signing-public.json").read_bytes()
    await stage.harness.put_resource("receipts/signing/1", public)
    made = await stage.cguest(
        "secret", "seal", "--resource", "kbs:///receipts/sealed/1", "--kid", kid,
        "--key", str(tmp_path / "sealed-signing-private.json"),
    )  # fmt: skip
    sealed = made.out.strip()
    async with await stage.hub() as client:
        stub = SealedSecretStub(client)
        await stub.unseal_secret(sealed, timeout_s=50)
        released = await seen.next("release")
        assert released.subject.resource == "kbs:///receipts/sealed/1"
        opened = await seen.next("unseal")
        assert (opened.verdict, opened.subject.kid) == ("allowed", kid)
        assert opened.subject.sealed_sha384 == sealed_sha384(sealed)
        for wrong in (sealed[:-8] + b"AAAAAAAA", b"my.secret.password", b"sealed.e30.e30.e30"):
            with pytest.raises(StatusError):
                await stub.unseal_secret(wrong, timeout_s=50)
            found = await seen.next("unseal")
            assert found.verdict != "allowed"
            # Of what may be a secret in plain there is no digest.
            assert bool(found.subject.sealed_sha384) == wrong.startswith(sealed[:40])


async def test_mounting_leaves_receipts(stage: Stage) -> None:
    seen = Seen(stage)
    async with mounted_bucket(stage) as mounted:
        place = mounted.point
        made = await seen.next("mount")
        assert (made.verdict, made.subject.mount_point) == ("allowed", str(place))
        assert made.subject.resource.startswith("oss://")
    gone = await seen.next("unmount")
    assert (gone.verdict, gone.subject.mount_point) == ("allowed", str(place))


async def test_an_export_is_checked_elsewhere_against_evidence(
    stage: Stage, tmp_path: Path
) -> None:
    await stage.harness.put_resource("receipts/two/1", CONTENT)
    for _ in range(3):
        got = await stage.cguest("resource", "get", "kbs:///receipts/two/1")
        assert got.code == 0, got.err
    measured = await stage.cguest("-o", "json", "receipts", "checkpoint")
    assert measured.code == 0, measured.err
    evidence = await stage.cguest("evidence", "get", "--runtime-data", "receipts")
    (tmp_path / "evidence.json").write_bytes(evidence.out)
    exported = tmp_path / "receipts.jsonl"
    assert (await stage.cguest("receipts", "export", "--output", str(exported))).code == 0
    log = ("--event-log", str(tmp_path / "evidence.json"))
    good = await stage.cguest("-o", "json", "receipts", "verify", str(exported), *log)
    found = json.loads(good.out)
    assert good.code == 0 and found["holds"] and found["checkpoints_matched"] >= 1
    assert found["event_log_and_quote"] == "agrees"
    assert found["covered_to"] == json.loads(measured.out)["sequence"]

    text = exported.read_bytes().replace(b'"allowed"', b'"refused"', 1)
    changed = tmp_path / "changed.jsonl"
    changed.write_bytes(text)
    bad = await stage.cguest("receipts", "verify", str(changed), *log)
    assert bad.code == 1 and "DOES NOT HOLD" in bad.text
    short = tmp_path / "short.jsonl"
    short.write_bytes(b"\n".join(exported.read_bytes().split(b"\n")[:3]) + b"\n")
    assert (await stage.cguest("receipts", "verify", str(short))).code == 0
    truncated = await stage.cguest("receipts", "verify", str(short), *log)
    assert truncated.code == 1 and "was measured" in truncated.text
    shown = await stage.cguest("receipts", "show", str(exported))
    assert shown.code == 0 and "kbs:///receipts/two/1" in shown.text


async def test_an_orderly_end_is_measured_and_the_next_start_goes_on(stage: Stage) -> None:
    before = _chain(stage)
    assert await stage.daemon.stop() == 0
    ended = _chain(stage)
    last = ended.receipts[-1].body
    assert isinstance(last, Checkpoint) and last.result == "measured"
    assert isinstance(ended.receipts[last.sequence].body, Stop)
    await stage.restart()
    after = _chain(stage)
    assert after.boot == before.boot and after.head.sequence > ended.head.sequence
    assert sum(isinstance(receipt.body, Genesis) for receipt in after.receipts) == 1
