"""The attestation agent on its socket, on the mounted mock TSM and against the mock KBS."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec import structs

from agent.compose import open_agent
from agent.config import AgentConfig, EventlogConfig, KbsConfig, TeeConfig, TokenConfigs
from kbs import session_from_aa_json
from lifecycle import UnixAddress, listen_unix
from mocktee.kbs import KbsOptions, MockKbs
from mocktee.pki import MockPki
from mocktee.tsm.process import TsmProcess
from protos import attestation_agent_pb2 as aa
from protos import services
from protos.stubs import AttestationAgentStub, AttestationStatusStub
from tdx.errors import InitdataMismatchError
from tdx.eventlog import parse_event_log
from tdx.initdata import Initdata
from tdx.quote import parse_quote
from tdx.replay import first_difference, replay
from ttrpc import Client, Code, Server, StatusError

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVIDENCE_FAILED = "[ERROR:attestation-agent] AA-KBC get evidence failed: "
TOKEN_FAILED = "[ERROR:attestation-agent] AA-KBC get token failed: "
EXTEND_FAILED = "[ERROR:attestation-agent] AA extend runtime measurement failed: "
INITDATA = b'version = "0.1.0"\r\nalgorithm = "sha384"\n[data]\n"aa.toml" = "a = 1"\n'
CONFIG_ID = hashlib.sha384(INITDATA).digest()
PKI = MockPki.create()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mounted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TsmProcess]:
    folder = tmp_path_factory.mktemp("tsm")
    PKI.save(folder / "pki")
    async with TsmProcess.start(
        folder / "mount", folder / "pki", folder / "control", mrconfigid=CONFIG_ID
    ) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def tsm(mounted: TsmProcess) -> AsyncIterator[TsmProcess]:
    """The mount as after boot: no faults, RTMR3 at zero; afterwards no entry is left."""
    await mounted.clear_faults()
    await mounted.tamper("rtmr3", bytes(48))
    yield mounted
    await mounted.clear_faults()
    assert (await mounted.state()).entries == ()


@pytest_asyncio.fixture(loop_scope="module")
async def kbs(tmp_path: Path) -> AsyncIterator[MockKbs]:
    async with MockKbs.start(tmp_path / "kbs", PKI, KbsOptions(tls=False)) as kbs:
        yield kbs


@dataclass(frozen=True, slots=True)
class Caller:
    """Stubs on one connection to a served agent."""

    client: Client
    agent: AttestationAgentStub
    status: AttestationStatusStub


def config_on(tsm: TsmProcess, folder: Path, url: str | None, *, log: bool = True) -> AgentConfig:
    return AgentConfig(
        socket=f"unix://{folder}/agent.sock",
        token_configs=TokenConfigs(kbs=KbsConfig(url) if url else None),
        eventlog_config=EventlogConfig(enable_eventlog=log, directory=str(folder / "log")),
        tee=TeeConfig(
            report_path=str(tsm.report_root),
            measurements_path=str(tsm.measurements),
            ccel_path=str(tsm.ccel),
        ),
    )


@asynccontextmanager
async def served(config: AgentConfig) -> AsyncIterator[Caller]:
    """Agent, server and one client in this process."""
    address = UnixAddress.parse(config.socket)
    async with open_agent(config) as running, asyncio.TaskGroup() as group:
        with await listen_unix(address) as listening:
            tasks = [
                group.create_task(Server(running.tables).serve(listening.sock)),
                group.create_task(running.background()),
            ]
            async with await Client.connect(address.path) as client:
                yield Caller(client, AttestationAgentStub(client), AttestationStatusStub(client))
            for task in tasks:
                task.cancel()


@pytest_asyncio.fixture(loop_scope="module")
async def caller(tsm: TsmProcess, kbs: MockKbs, tmp_path: Path) -> AsyncIterator[Caller]:
    async with served(config_on(tsm, tmp_path, kbs.url)) as caller:
        yield caller


async def test_evidence_is_bound_and_its_log_replays(caller: Caller, tsm: TsmProcess) -> None:
    document = json.loads((await caller.agent.get_evidence(b"nonce")).Evidence)
    assert list(document) == ["cc_eventlog", "quote"]
    quote = parse_quote(base64.b64decode(document["quote"], validate=True))
    assert quote.body.report_data == b"nonce".ljust(64, b"\0")
    assert quote.body.mr_config_id == CONFIG_ID
    log = parse_event_log(base64.b64decode(document["cc_eventlog"], validate=True))
    assert first_difference(replay(log.events), quote.body.rtmrs) is None


async def test_the_small_answers(caller: Caller) -> None:
    assert (await caller.agent.get_tee_type()).tee == "tdx"
    assert list((await caller.agent.get_additional_tees()).additional_tees) == []
    assert (await caller.agent.get_additional_evidence(b"x")).Evidence == b""
    with pytest.raises(StatusError) as caught:
        await caller.client.call(
            services.ATTESTATION_AGENT,
            "BindInitData",
            aa.BindInitDataRequest(Digest=b"x"),
            aa.BindInitDataResponse,
        )
    path = "/attestation_agent.AttestationAgentService/BindInitData"
    assert (caught.value.code, caught.value.message) == (
        Code.NOT_FOUND,
        f"{path} is not supported",
    )


async def test_runtime_data_over_64_bytes(caller: Caller) -> None:
    with pytest.raises(StatusError) as caught:
        await caller.agent.get_evidence(bytes(65))
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.startswith(EVIDENCE_FAILED)
    assert "at most 64 bytes, got 65" in caught.value.message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "eio", "count": 2}, "EIO"),
        ({"kind": "empty", "count": 2}, "got 0 (the host's quote generation service failed"),
        ({"kind": "truncated", "length": 1500}, "signature data at byte"),
        ({"kind": "stale"}, "another or an older quote"),
        ({"kind": "wrong_report_data"}, "another or an older quote"),
        ({"kind": "version", "version": 3}, "version at byte 0"),
        ({"kind": "swapped_report_data"}, "another or an older quote"),
        ({"kind": "lying_length", "field": "section", "delta": 4096}, "signature data at byte"),
        ({"kind": "zeros", "length": 32768}, "version at byte 0"),
        ({"kind": "host_error", "count": 2}, "expected at least 1020 bytes of quote, got 0"),
        ({"kind": "entry_removed"}, "the entry has vanished"),
        ({"kind": "generation_stuck", "count": 3}, "expected generation 1, got '0'"),
        ({"kind": "generation_jump", "count": 3}, "expected generation 1, got '2'"),
        ({"kind": "generation_text", "count": 3}, "expected generation a decimal number"),
        ({"kind": "no_space"}, "ENOSPC"),
        ({"kind": "generation_race", "count": 3}, "expected generation 1, got"),
        ({"kind": "wrong_provider"}, "expected provider 'tdx_guest', got 'sev_guest'"),
        ({"kind": "no_provider"}, "no provider"),
        ({"kind": "no_memory"}, "ENOMEM"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
async def test_faults_of_the_host_reach_the_caller_with_their_reason(
    caller: Caller, tsm: TsmProcess, fault: dict[str, object], reason: str
) -> None:
    await tsm.set_faults([fault])
    with pytest.raises(StatusError) as caught:
        await caller.agent.get_evidence(secrets.token_bytes(32))
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.startswith(EVIDENCE_FAILED)
    assert reason in caught.value.message
    await tsm.clear_faults()
    assert (await caller.agent.get_evidence(b"after")).Evidence


@pytest.mark.parametrize("kind", ["busy", "eintr", "timedout", "eio", "entry_exists", "trailing"])
async def test_passing_faults_are_survived(caller: Caller, tsm: TsmProcess, kind: str) -> None:
    await tsm.set_faults([{"kind": kind}])
    document = json.loads((await caller.agent.get_evidence(kind.encode())).Evidence)
    quote = parse_quote(base64.b64decode(document["quote"]))
    assert len(quote.raw) == len(base64.b64decode(document["quote"]))


async def test_a_deadline_is_answered_with_the_cause(caller: Caller, tsm: TsmProcess) -> None:
    await tsm.set_faults([{"kind": "busy", "count": None}])
    with pytest.raises(StatusError) as caught:
        await caller.agent.get_evidence(b"late", timeout_s=1.0)
    assert caught.value.code is Code.INTERNAL
    assert "last cause" in caught.value.message
    assert "EBUSY" in caught.value.message


async def test_ten_tokens_cost_one_quote(caller: Caller, tsm: TsmProcess, kbs: MockKbs) -> None:
    before = (await tsm.state()).quotes_made
    replies = await asyncio.gather(*(caller.agent.get_token("kbs") for _ in range(10)))
    assert len({reply.Token for reply in replies}) == 1
    session_from_aa_json(replies[0].Token)
    assert (await tsm.state()).quotes_made == before + 1
    assert kbs.counters.attest_accepted == 1
    status = await caller.status.get_status()
    assert (status.session, status.handshakes, status.quotes_taken) == ("attested", 1, 1)
    assert (status.tee, status.kbs_url, status.last_error) == ("tdx", kbs.url, "")
    assert status.session_expires_unix > status.renew_at_unix > 0


async def test_a_refused_token_is_replaced(caller: Caller, kbs: MockKbs) -> None:
    first = session_from_aa_json((await caller.agent.get_token("kbs")).Token)
    metadata = {"cguest-refused-token": [first.token_id]}
    replies = await asyncio.gather(
        *(caller.agent.get_token("kbs", metadata=metadata) for _ in range(5))
    )
    assert len({reply.Token for reply in replies}) == 1
    assert session_from_aa_json(replies[0].Token).token_id != first.token_id
    assert kbs.counters.attest_accepted == 2


@pytest.mark.parametrize("kind", ["coco_as", "other"])
async def test_other_tokens_are_refused_by_name(caller: Caller, kind: str) -> None:
    with pytest.raises(StatusError) as caught:
        await caller.agent.get_token(kind)
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.startswith(f"{TOKEN_FAILED}token of type {kind!r}: ")


async def test_attesting_again_by_force(caller: Caller, kbs: MockKbs) -> None:
    assert (await caller.status.attest()).handshakes == 1
    assert (await caller.status.attest()).handshakes == 1
    assert (await caller.status.attest(force=True)).handshakes == 2


async def test_a_tampered_register_is_refused_with_the_kbs_reason(
    caller: Caller, tsm: TsmProcess
) -> None:
    await tsm.tamper("rtmr3", b"\x11" * 48)
    with pytest.raises(StatusError) as caught:
        await caller.status.attest()
    assert caught.value.code is Code.PERMISSION_DENIED
    assert "attestation refused" in caught.value.message
    status = await caller.status.get_status()
    assert status.session == "failed"
    assert "attestation refused" in status.last_error


async def test_a_failing_quote_is_a_failed_handshake(caller: Caller, tsm: TsmProcess) -> None:
    await tsm.set_faults([{"kind": "no_provider", "count": None}])
    with pytest.raises(StatusError) as caught:
        await caller.agent.get_token("kbs")
    assert caught.value.message.startswith(TOKEN_FAILED)
    assert "no provider" in caught.value.message
    await tsm.clear_faults()
    with pytest.raises(StatusError, match="not tried again for another"):
        await caller.agent.get_token("kbs")  # nor does this one cost a quote
    assert (await caller.status.attest(force=True)).session == "attested"
    assert (await caller.agent.get_token("kbs")).Token


async def test_measured_events_are_accepted_by_the_kbs(
    caller: Caller, tsm: TsmProcess, kbs: MockKbs, tmp_path: Path
) -> None:
    for number, index in enumerate([None, 0, 17]):
        reply = await caller.agent.extend_runtime_measurement(
            "github.com/x", "PullImage", f'{{"n": {number}}}', index
        )
        assert reply.Result == aa.OK
    records = (tmp_path / "log" / "eventlog").read_bytes()
    assert records[:4] == (4).to_bytes(4, "little")
    assert b"LEAA" in records
    assert (await tsm.state()).registers["rtmr3"] != bytes(48)
    assert (await caller.status.attest()).session == "attested"
    status = await caller.status.get_status()
    assert (status.event_log_enabled, status.measured_events) == (True, 3)


async def test_an_event_that_breaks_the_rules(caller: Caller) -> None:
    with pytest.raises(StatusError) as caught:
        await caller.agent.extend_runtime_measurement("two words", "o", "c")
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.startswith(f"{EXTEND_FAILED}event domain: ")


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "register_busy", "count": 5},
        {"kind": "extend_lost"},
        {"kind": "short_write", "length": 20},
    ],
    ids=["busy", "lost", "short"],
)
async def test_an_event_that_did_not_reach_the_register_is_not_logged(
    caller: Caller, tsm: TsmProcess, tmp_path: Path, fault: dict[str, object]
) -> None:
    await tsm.set_faults([fault])
    with pytest.raises(StatusError) as caught:
        await caller.agent.extend_runtime_measurement("d", "o", "c")
    assert caught.value.message.startswith(EXTEND_FAILED)
    assert (tmp_path / "log" / "eventlog").read_bytes() == b""
    assert (await caller.agent.extend_runtime_measurement("d", "o", "c")).Result == aa.OK


async def test_without_event_log_or_registers_the_result_says_so(
    tsm: TsmProcess, tmp_path: Path
) -> None:
    config = config_on(tsm, tmp_path, None, log=False)
    async with served(config) as caller:
        reply = await caller.agent.extend_runtime_measurement("d", "o", "c")
        assert reply.Result == aa.NOT_ENABLED
    config = config_on(tsm, tmp_path, None)
    tee = structs.replace(config.tee, measurements_path=str(tmp_path / "absent"))
    async with served(structs.replace(config, tee=tee)) as caller:
        reply = await caller.agent.extend_runtime_measurement("d", "o", "c")
        assert reply.Result == aa.NOT_SUPPORTED


async def test_starting_needs_no_kbs(tsm: TsmProcess, tmp_path: Path) -> None:
    async with served(config_on(tsm, tmp_path, "http://127.0.0.1:9")) as caller:
        assert (await caller.status.get_status()).session == "none"
        with pytest.raises(StatusError) as caught:
            await caller.status.attest(timeout_s=30)
        assert caught.value.code is Code.UNAVAILABLE
    async with served(config_on(tsm, tmp_path, None)) as caller:
        with pytest.raises(StatusError) as caught:
            await caller.agent.get_token("kbs")
        assert "no KBS is configured" in caught.value.message
        assert "token_configs.kbs.url" in caught.value.message


async def test_a_broken_boot_log_fails_evidence_not_the_start(
    tsm: TsmProcess, tmp_path: Path
) -> None:
    (tmp_path / "CCEL").write_bytes(b"\xff" * 64)
    config = config_on(tsm, tmp_path, None)
    tee = structs.replace(config.tee, ccel_path=str(tmp_path / "CCEL"))
    async with served(structs.replace(config, tee=tee)) as caller:
        with pytest.raises(StatusError) as caught:
            await caller.agent.get_evidence(b"x")
        assert caught.value.message.startswith(f"{EVIDENCE_FAILED}event log, first record")


async def test_stale_entries_are_swept_at_start(tsm: TsmProcess, tmp_path: Path) -> None:
    # No process has this number: it is above the kernel's limit.
    os.mkdir(tsm.report_root / "cguest-9999999-00")
    async with served(config_on(tsm, tmp_path, None)):
        assert (await tsm.state()).entries == ()


async def test_initdata_is_compared_with_the_register(tsm: TsmProcess, tmp_path: Path) -> None:
    config = config_on(tsm, tmp_path, None)
    async with open_agent(config, initdata=Initdata("sha384", CONFIG_ID)):
        pass
    with pytest.raises(InitdataMismatchError):
        async with open_agent(config, initdata=Initdata("sha256", bytes(32))):
            pass


async def test_configured_initdata_is_compared_and_sent(
    tsm: TsmProcess, kbs: MockKbs, tmp_path: Path
) -> None:
    (tmp_path / "initdata.toml").write_bytes(INITDATA)
    config = config_on(tsm, tmp_path, kbs.url)
    tee = structs.replace(config.tee, initdata=str(tmp_path / "initdata.toml"))
    async with open_agent(structs.replace(config, tee=tee)) as running:
        session = await running.sessions.session()
    claims = session.token.reveal_text().split(".")[1]
    token = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    # Only a KBS that was sent the document can know what is in it.
    assert '"aa.toml": {"a": 1}' in json.dumps(token)
    (tmp_path / "initdata.toml").write_bytes(INITDATA + b"#")
    with pytest.raises(InitdataMismatchError, match=CONFIG_ID.hex()):
        async with open_agent(structs.replace(config, tee=tee)):
            pass
