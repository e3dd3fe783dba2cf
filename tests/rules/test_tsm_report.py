"""One report entry of a provider with privilege levels and certificates, step by step."""

from __future__ import annotations

import errno

import pytest

from tdx.errors import TsmBusyError, TsmGenerationError, TsmIoError
from tdx.report_data import ReportData
from tdx.tsm_report import TsmReport
from tests.ports.fake_tsm import Entry, FakeTsm

DATA = ReportData(bytes(range(64)))


@pytest.fixture
def tsm() -> FakeTsm:
    return FakeTsm(provider=b"sev_guest\n", levels=True)


def test_level_data_report_certificates_and_manifest(tsm: FakeTsm) -> None:
    with TsmReport(tsm) as report:
        assert report.privilege_floor() == 1
        report.set_privilege(2)
        assert report.store(DATA) == 2
        assert report.certificates() == b"auxblob of " + DATA.value
        assert report.manifest() == b"manifestblob of " + DATA.value
        assert report.generation() == 2
    assert tsm.table == {}
    assert tsm.quotes_made == 1


def test_a_level_between_store_and_quote_makes_another_quote(tsm: FakeTsm) -> None:
    with TsmReport(tsm) as report:
        assert report.store(DATA) == 1
        report.set_privilege(3)
        assert report.generation() == 2
        report.certificates()
    assert tsm.quotes_made == 1


@pytest.mark.parametrize("level", [0, 4, 99])
def test_a_level_outside_the_range_is_refused_by_the_write(tsm: FakeTsm, level: int) -> None:
    with TsmReport(tsm) as report:
        with pytest.raises(TsmIoError, match="privlevel: EINVAL") as caught:
            report.set_privilege(level)
        assert "at most 3" in caught.value.hint
        assert report.store(DATA) == 1


def test_tdx_offers_none_of_them() -> None:
    with TsmReport(FakeTsm()) as report:
        report.store(DATA)
        assert report.privilege_floor() is None
        assert report.certificates() is None
        assert report.manifest() is None
        with pytest.raises(TsmIoError):
            report.set_privilege(1)


def test_a_vanished_entry_is_not_an_absent_attribute(tsm: FakeTsm) -> None:
    with TsmReport(tsm) as report:
        tsm.table.clear()
        for read in (report.privilege_floor, report.certificates, report.manifest):
            with pytest.raises(TsmIoError, match="vanished"):
                read()


def test_a_failing_read_is_not_an_absent_attribute(tsm: FakeTsm) -> None:
    with TsmReport(tsm) as report:
        report.store(DATA)
        tsm.fail("read auxblob", errno.EBUSY)
        with pytest.raises(TsmBusyError, match="auxblob: EBUSY"):
            report.certificates()


def test_a_rival_store_between_ours_is_seen(tsm: FakeTsm) -> None:
    with TsmReport(tsm) as report:
        report.set_privilege(1)
        entry: Entry = tsm.table[report.name]
        entry.generation += 1
        with pytest.raises(TsmGenerationError, match="expected generation 1, got '2'"):
            report.store(DATA)


def test_a_floor_that_is_no_level(tsm: FakeTsm, monkeypatch: pytest.MonkeyPatch) -> None:
    with TsmReport(tsm) as report:
        monkeypatch.setattr(tsm, "read", lambda *_: b"low\n")
        with pytest.raises(TsmIoError, match="expected a level, got 'low'"):
            report.privilege_floor()
