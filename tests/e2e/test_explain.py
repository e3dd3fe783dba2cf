"""``cguest attest --explain`` on real processes, ``cguest explain`` on what it saved."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding

from demo.stage import Finished, Stage, run
from mocktee.certs import provide_tls

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET_FORMS = re.compile(rb"PRIVATE KEY|tee_keypair|eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+")
DENY_ALL = "package policy\n\ndefault allow := false\n"
ALLOW_ALL = 'package policy\n\nimport rego.v1\n\nallow if data.plugin == "resource"\n'


def found(done: Finished) -> Mapping[str, Mapping[str, Any]]:
    """Findings of a run with ``-o json``, by code."""
    return {item["code"]: item for item in json.loads(done.out)["findings"]}


@asynccontextmanager
async def tampered(stage: Stage, register: str) -> AsyncIterator[None]:
    """A register changed behind the log's back while the block runs."""
    tsm = stage.harness.tsm
    before = (await tsm.state()).registers[register]
    await tsm.tamper(register, hashlib.sha384(b"tampered").digest())
    try:
        yield
    finally:
        await tsm.tamper(register, before)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def attested(stage: Stage) -> None:
    """Every test begins with a good session, whatever the one before it provoked."""
    assert (await stage.cguest("attest", "--force")).code == 0


@pytest.fixture
def root(stage: Stage, tmp_path: Path) -> Path:
    """The mock authority's root, which an operator of the harness trusts."""
    path = tmp_path / "root.pem"
    certificate = stage.harness.pki.certificates["root-ca"]
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path


def no_secret_in(folder: Path) -> None:
    for path in folder.iterdir():
        assert not SECRET_FORMS.search(path.read_bytes()), path.name
        assert path.stat().st_mode & 0o777 == 0o600


async def test_a_tampered_register_is_explained_here_and_elsewhere(
    stage: Stage, tmp_path: Path, root: Path
) -> None:
    good = tmp_path / "good.json"
    good.write_bytes((await stage.cguest("evidence", "get")).out)
    ticket = tmp_path / "ticket"
    async with tampered(stage, "rtmr2"):
        quotes = await stage.harness.quotes_made()
        done = await stage.cguest(
            "-o", "json", "attest", "--force", "--explain", "--save", str(ticket),
            "--trusted-root", str(root),
        )  # fmt: skip
        assert await stage.harness.quotes_made() == quotes + 1, "the refused quote is explained"
    assert done.code == 1, done.err
    assert "RTMR2" in found(done)["event-log-replay"]["found"]
    # The answer of the mock KBS tells more than Trustee's; both judge alike.
    assert "RTMR2" in found(done)["attestation-refused"]["got"]
    assert {path.name for path in ticket.iterdir()} == {
        "attest-request.json", "bundle.json", "challenge.json", "kbs-answer.json",
        "trusted-root.pem",
    }  # fmt: skip
    no_secret_in(ticket)

    # Elsewhere: another process, no daemon, and in an archive, with values of the good boot.
    values = tmp_path / "values.json"
    message = await run_cguest("reference-values", "--evidence", str(good), "--message")
    values.write_bytes(message.out)
    archive = tmp_path / "ticket.tar"
    packed = await run("tar", "-cf", str(archive), "-C", str(tmp_path), "ticket")
    assert packed.code == 0
    done = await run_cguest(
        "-o", "json", "explain", str(archive), "--reference-values", str(values)
    )
    assert done.code == 1
    assert {"event-log-replay", "rtmr-differs"} <= found(done).keys()


async def run_cguest(*arguments: str) -> Finished:
    """``cguest`` without any configuration."""
    return await run(sys.executable, "-m", "cguest", *arguments)


async def test_values_of_a_good_boot_can_be_registered(stage: Stage, tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_bytes((await stage.cguest("evidence", "get")).out)
    message = await run_cguest("reference-values", "--evidence", str(good), "--message")
    await stage.harness.kbs._call("POST", "/kbs/v0/reference-value", message.out)
    done = await stage.cguest("attest", "--force")
    assert done.code == 0, done.err
    async with tampered(stage, "mrtd"):
        done = await stage.cguest(
            "-o", "json", "attest", "--force", "--explain", "--reference-values",
            str(_saved(tmp_path, message.out)),
        )  # fmt: skip
    assert done.code == 1
    assert found(done)["mr-td-unknown"]["got"] == hashlib.sha384(b"tampered").hexdigest()


def _saved(folder: Path, content: bytes) -> Path:
    path = folder / "values.json"
    path.write_bytes(content)
    return path


async def test_a_denial_shows_the_claims_that_matter(
    stage: Stage, tmp_path: Path, root: Path
) -> None:
    policy = tmp_path / "policy.rego"
    policy.write_text(DENY_ALL + "# looks at tcb_status\n")
    ticket = tmp_path / "ticket"
    await stage.harness.set_resource_policy(DENY_ALL)
    try:
        done = await stage.cguest(
            "-o", "json", "attest", "--explain", "--resource", "kbs:///default/key/1",
            "--policy", str(policy), "--save", str(ticket), "--trusted-root", str(root),
        )  # fmt: skip
    finally:
        await stage.harness.set_resource_policy(ALLOW_ALL)
    assert done.code == 1, done.err
    findings = json.loads(done.out)["findings"]
    denied = [item for item in findings if item["code"] == "policy-denied"]
    assert "kbs:///default/key/1" in denied[0]["found"]
    assert "tcb_status = UpToDate" in denied[1]["got"]
    no_secret_in(ticket)
    assert (ticket / "token-claims.json").exists()


async def test_a_session_is_looked_at_too(stage: Stage, tmp_path: Path, root: Path) -> None:
    done = await stage.cguest("attest", "--explain", "--trusted-root", str(root))
    assert done.code == 0, done.err
    assert done.text.startswith("attested")
    async with tampered(stage, "rtmr1"):
        assert (await stage.cguest("attest", "--force")).code == 1
    renewed = await stage.cguest("attest", "--explain")
    assert renewed.code == 1
    assert renewed.text.startswith("attested, but the last handshake failed")
    again = await stage.cguest("attest", "--explain", "--save", str(tmp_path))
    assert "is not empty" in again.err
    assert again.code == 3


async def test_another_ca_is_no_attestation_problem(stage: Stage, tmp_path: Path) -> None:
    other = provide_tls(tmp_path / "other", name="kbs").ca.read_text()
    ours = stage.harness.kbs_ca_pem
    assert ours is not None
    text = stage.config.read_text()
    stage.config.write_text(text.replace(ours.strip(), other.strip()))
    assert stage.config.read_text() != text
    try:
        await stage.restart()
        done = await stage.cguest("-o", "json", "attest", "--explain")
    finally:
        stage.config.write_text(text)
        await stage.restart()
    assert done.code == 3
    assert found(done).keys() == {"kbs-tls"}
    assert "no attestation problem" in found(done)["kbs-tls"]["found"]
