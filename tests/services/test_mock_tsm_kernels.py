"""Kernel profiles of the mock TSM, and what our reader makes of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mocktee.pki import MockPki
from mocktee.tsm.process import TsmProcess
from mocktee.tsm.profile import PROFILES, KernelProfile
from tdx.errors import TsmHostError
from tdx.measurements import MeasurementRegisters
from tdx.quote_reader import QuoteReader
from tdx.report_data import ReportData
from tdx.tsm import LinuxTsm
from tdx.tsm_report import TsmQuoteSource

DATA = ReportData(bytes(range(64)))


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> KernelProfile:
    return PROFILES[request.param]


@pytest.fixture
async def tsm(tmp_path: Path, profile: KernelProfile) -> AsyncIterator[TsmProcess]:
    MockPki.create().save(tmp_path / "pki")
    async with TsmProcess.start(
        tmp_path / "mount", tmp_path / "pki", tmp_path / "control", kernel=profile.name
    ) as process:
        yield process


async def no_pause(_seconds: float) -> None:
    return


async def test_what_a_guest_can_tell_apart(tsm: TsmProcess, profile: KernelProfile) -> None:
    registers = MeasurementRegisters(tsm.measurements)
    assert await asyncio.to_thread(registers.available) == profile.registers
    source = TsmQuoteSource(LinuxTsm(tsm.report_root))
    async with QuoteReader(source, pause=no_pause) as reader:
        # Success with nothing, or EIO: to the caller a failed host is one and the same.
        await tsm.set_faults([{"kind": "host_error"}])
        assert await reader.quote(DATA)
        await tsm.set_faults([{"kind": "host_error", "count": 2}])
        with pytest.raises(TsmHostError) as caught:
            await reader.quote(DATA)
        assert ("EIO" in str(caught.value)) == bool(profile.host_failure)
        # 40 KiB are above the older limit of a blob and below the reader's own.
        await tsm.set_faults([{"kind": "trailing", "length": 40_000, "count": 2}])
        if profile.outblob_max < 40_000:
            with pytest.raises(TsmHostError, match="EFBIG"):
                await reader.quote(DATA)
        else:
            assert await reader.quote(DATA)
    assert (await tsm.state()).entries == ()
