"""Evidence and token of a workload cannot be used against the guest, unless the operator says so.

A workload makes a TEE key of its own, starts a handshake with the key broker, asks REST for
evidence over the digest that binds its key, and shows that. The mock broker checks quotes as the
real one does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.caller_data import CALLER_LABEL
from demo.stage import Daemon, Stage, free_port, run
from rest import strict
from tdx.quote import parse_quote
from tests.services.kbs_guest import Answer, Guest, b64u, jwk_of, report_data, unb64u

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def rest_with(stage: Stage, name: str, *settings: str) -> AsyncIterator[str]:
    """A REST server of its own on the stage's sockets, with ``settings``."""
    port = free_port()
    folder = stage.folder / name
    folder.mkdir()
    config = folder / "rest.toml"
    lines = [
        "[rest]", f'bind = "127.0.0.1:{port}"', 'features = "all"',
        f'cdh_addr = "unix://{stage.hub_socket}"', f'aa_addr = "unix://{stage.agent_socket}"',
        *settings,
    ]  # fmt: skip
    config.write_text("\n".join(lines))
    daemon = await Daemon.start(config, folder, "--services", "rest")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        assert await daemon.stop() == 0


async def evidence_over(base: str, data: bytes) -> dict[str, Any]:
    target = f"{base}/aa/evidence?encoding=base64&runtime_data={b64u(data)}"
    done = await run("curl", "-sS", "--fail-with-body", target)
    evidence: dict[str, Any] = json.loads(done.out)
    return evidence


def bound_by(evidence: dict[str, Any]) -> bytes:
    return bytes(parse_quote(unb64u(evidence["quote"].replace("+", "-").replace("/", "_")))
                 .body.report_data)  # fmt: skip


async def handshake_of_a_workload(stage: Stage, base: str) -> tuple[Guest, Answer]:
    """Attest with a key of the workload's, and evidence from REST."""
    ca = str(stage.harness.kbs_ca)
    async with Guest(stage.harness.kbs_url, stage.harness.pki, ca=ca) as workload:
        assert (await workload.auth()).status == 200
        # 48 bytes; the zeros up to 64 are the quote's own.
        digest = report_data(workload.nonce, jwk_of(workload.key))[:48]
        answer = await workload.attest(evidence=await evidence_over(base, digest))
        if answer.status == 200:
            resource = await workload.call(
                "GET", "/kbs/v0/resource/default/key/1", bearer=workload.token, with_cookie=False
            )
            assert workload.open(resource)
    return workload, answer


async def test_evidence_over_rest_completes_no_handshake(stage: Stage) -> None:
    workload, answer = await handshake_of_a_workload(stage, stage.rest_url)
    assert answer.status == 401
    assert workload.token is None
    assert b"REPORT_DATA" in answer.body.upper().replace(b" ", b"_"), answer.body


async def test_with_the_references_behaviour_it_does(stage: Stage) -> None:
    """The known oracle: whoever may ask for evidence gets all resources of the guest."""
    async with rest_with(stage, "reference", 'evidence = "reference"') as base:
        workload, answer = await handshake_of_a_workload(stage, base)
    assert answer.status == 200
    assert workload.token


@pytest.mark.parametrize("data", [b"", b"nonce", bytes(range(64))], ids=["none", "text", "64"])
async def test_a_verifier_computes_what_is_bound(stage: Stage, data: bytes) -> None:
    evidence = await evidence_over(stage.rest_url, data)
    text = b"confidential-guest caller evidence v1\0" + data
    assert bound_by(evidence) == hashlib.sha512(text).digest()


async def test_agent_and_rest_have_the_same_label() -> None:
    assert strict.CALLER_LABEL == CALLER_LABEL


async def test_the_token_has_no_key_unless_the_operator_says_so(stage: Stage) -> None:
    done = await stage.curl("/aa/token?token_type=kbs")
    assert set(json.loads(done.out)) == {"token"}
    async with rest_with(stage, "token", 'token = "reference"') as base:
        done = await run("curl", "-sS", f"{base}/aa/token?token_type=kbs")
    assert set(json.loads(done.out)) == {"token", "tee_keypair"}


@pytest.mark.parametrize("own_process", [False, True], ids=["one-process", "two-processes"])
async def test_an_agent_that_labels_too_labels_once(stage: Stage, own_process: bool) -> None:
    before = stage.config.read_text()
    stage.config.write_text(before.replace("[agent.tee]", "[agent.tee]\nlabel_caller_data = true"))
    await stage.restart()
    try:
        bound = await _bound(stage, ("reference", "strict") if own_process else ("strict",))
    finally:
        stage.config.write_text(before)
        await stage.restart()
    assert set(bound) == {hashlib.sha512(CALLER_LABEL + b"x").digest()}


async def _bound(stage: Stage, settings: Sequence[str]) -> list[bytes]:
    """Return what is bound for ``x`` with each setting; ``strict`` alone is the daemon's own."""
    if len(settings) == 1:
        return [bound_by(await evidence_over(stage.rest_url, b"x"))]
    bound = []
    for setting in settings:
        async with rest_with(stage, f"labels-{setting}", f'evidence = "{setting}"') as base:
            bound.append(bound_by(await evidence_over(base, b"x")))
    return bound
