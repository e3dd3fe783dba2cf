"""The whole agent on a guest of 2023: no configfs-tsm, no sysfs registers, quotes from the QGS."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs

from agent import compose
from agent.attestation import ExtendResult
from agent.compose import open_agent
from agent.config import (
    AgentConfig,
    EventlogConfig,
    KbsConfig,
    QuoteSourceName,
    TeeConfig,
    TokenConfigs,
)
from agent.tee import find_tee
from kbs import KbsError
from mocktee.guest_device import GuestKernel, MockGuestDevice
from mocktee.kbs import KbsOptions, MockKbs
from mocktee.pki import MockPki
from mocktee.qgs import MockQgs
from mocktee.qgs_server import MockQgsServer, QgsFault
from mocktee.td import TdState
from tdx.errors import InitdataUnboundError
from tdx.guest_device import DeviceAbi

PKI = MockPki.create()
INITDATA = b'version = "0.1.0"\nalgorithm = "sha512"\n[data]\n"aa.toml" = "a = 1"\n'


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> MockGuestDevice:
    """The guest device of a vendor kernel, where the agent makes its system calls."""
    td = TdState.booted(mrconfigid=hashlib.sha512(INITDATA).digest()[:48])
    device = MockGuestDevice(td, MockQgs(PKI, td), GuestKernel.VENDOR)
    monkeypatch.setattr(compose, "find_tee", partial(find_tee, ioctl=device.ioctl))
    return device


@pytest.fixture
async def qgs(tmp_path: Path, device: MockGuestDevice) -> AsyncIterator[MockQgsServer]:
    async with MockQgsServer.start(tmp_path / "qgs.sock", MockQgs(PKI, device.td)) as server:
        yield server


@pytest.fixture
async def kbs(tmp_path: Path) -> AsyncIterator[MockKbs]:
    async with MockKbs.start(tmp_path / "kbs", PKI, KbsOptions(tls=False)) as kbs:
        yield kbs


@pytest.fixture
def config(tmp_path: Path, device: MockGuestDevice, kbs: MockKbs) -> AgentConfig:
    (tmp_path / "CCEL").write_bytes(device.td.boot_log.data_file())
    (tmp_path / "initdata.toml").write_bytes(INITDATA)
    tee = TeeConfig(
        report_path=str(tmp_path / "tsm/report"),
        measurements_path=str(tmp_path / "measurements"),
        ccel_path=str(tmp_path / "CCEL"),
        guest_device="/dev/null",
        guest_device_abi=DeviceAbi.VENDOR,
        qgs_address=f"unix:{tmp_path}/qgs.sock",
        initdata=str(tmp_path / "initdata.toml"),
    )
    return AgentConfig(
        token_configs=TokenConfigs(kbs=KbsConfig(kbs.url)),
        eventlog_config=EventlogConfig(enable_eventlog=True, directory=str(tmp_path / "log")),
        tee=tee,
    )


@pytest.mark.parametrize("source", [QuoteSourceName.AUTO, QuoteSourceName.IOCTL])
async def test_measured_attested_and_accepted(
    config: AgentConfig,
    kbs: MockKbs,
    qgs: MockQgsServer,
    device: MockGuestDevice,
    source: QuoteSourceName,
) -> None:
    config = structs.replace(config, tee=structs.replace(config.tee, quote_source=source))
    async with open_agent(config) as running:
        assert await running.agent.extend("domain", "operation", "content") is ExtendResult.OK
        assert any(device.td.rtmrs[3])
        session = await running.sessions.session()
    # The KBS replays the log against the quote and compares initdata with MRCONFIGID.
    assert session.token_id
    assert kbs.counters.attest_accepted == 1
    assert qgs.connections == (source is QuoteSourceName.AUTO)


async def test_the_reason_of_the_service_reaches_the_session(
    config: AgentConfig, qgs: MockQgsServer
) -> None:
    async with open_agent(config) as running:
        qgs.faults.extend([QgsFault.ERROR_CODE] * 2)
        with pytest.raises(KbsError, match="out of memory"):
            async with asyncio.timeout(20):
                await running.sessions.session()


async def test_initdata_is_compared_with_the_report(
    config: AgentConfig, device: MockGuestDevice
) -> None:
    device.td.tamper("mrconfigid", bytes(48))
    with pytest.raises(InitdataUnboundError, match="no initdata was bound"):
        async with open_agent(config):
            pass
