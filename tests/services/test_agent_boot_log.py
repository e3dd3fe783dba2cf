"""The agent on boot logs of every form: sent whole, or evidence fails and says where."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent.attestation import AttestationAgent
from agent.compose import open_agent
from agent.config import AgentConfig, EventlogConfig, TeeConfig
from mocktee.pki import MockPki
from mocktee.tsm.ccel_forms import FORMS
from mocktee.tsm.process import TsmProcess
from tdx.errors import TdxError
from tdx.eventlog import parse_event_log

pytestmark = pytest.mark.asyncio(loop_scope="module")

REASONS = {
    "truncated": "event log, event data at byte",
    "empty": "event log, log at byte 0",
    "rest": "left",
    "unknown_algorithm": "digest algorithm at byte",
    "many_digests": "digest count at byte",
    "long_event": "event data at byte",
    "beyond_the_area": "larger than 1048576 bytes",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tsm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TsmProcess]:
    folder = tmp_path_factory.mktemp("tsm")
    MockPki.create().save(folder / "pki")
    async with TsmProcess.start(folder / "mount", folder / "pki", folder / "control") as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def agent(tsm: TsmProcess, tmp_path: Path) -> AsyncIterator[AttestationAgent]:
    config = AgentConfig(
        eventlog_config=EventlogConfig(enable_eventlog=True, directory=str(tmp_path / "log")),
        tee=TeeConfig(
            report_path=str(tsm.report_root),
            measurements_path=str(tsm.measurements),
            ccel_path=str(tsm.ccel),
        ),
    )
    async with open_agent(config) as running:
        yield running.agent
    await tsm.set_ccel("whole")


@pytest.mark.parametrize("form", REASONS)
async def test_a_malformed_log_fails_the_evidence(
    agent: AttestationAgent, tsm: TsmProcess, form: str
) -> None:
    await tsm.set_ccel(form)
    with pytest.raises(TdxError, match=REASONS[form]):
        await agent.evidence(b"x")


@pytest.mark.parametrize("form", sorted(set(FORMS) - set(REASONS)))
async def test_a_well_formed_log_is_sent_without_its_padding(
    agent: AttestationAgent, tsm: TsmProcess, form: str
) -> None:
    await tsm.set_ccel(form)
    evidence = json.loads(await agent.evidence(b"x"))
    log = base64.b64decode(evidence["cc_eventlog"])
    assert len(log) < 4096
    assert (len(parse_event_log(log).events) == 0) == (form == "absent")
