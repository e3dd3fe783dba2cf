"""Providers with privilege levels and certificates: one suite for the fake and the mock.

Source: Linux Documentation/ABI/testing/configfs-tsm-report, drivers/virt/coco/guest/report.c.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mocktee.errors import SyscallError
from mocktee.tsm.process import TsmProcess
from mocktee.tsm.snp import CERTIFICATES, MANIFEST
from mocktee.tsm.texts import unsigned
from tdx.report_data import ReportData
from tdx.tsm import LinuxTsm, TsmFilesystem
from tdx.tsm_report import TsmReport
from tests.ports.fake_tsm import FakeTsm
from tests.ports.syscalls import refused

DATA = bytes(range(64))
LIMIT = 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def snp_mount(
    mock_pki_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TsmProcess]:
    folder = tmp_path_factory.mktemp("snp")
    async with TsmProcess.start(
        folder / "mount", mock_pki_dir, folder / "control", provider="sev_guest"
    ) as process:
        yield process


@pytest.fixture(params=["fake", "mock"])
def tsm(request: pytest.FixtureRequest) -> TsmFilesystem:
    if request.param == "fake":
        return FakeTsm(provider=b"sev_guest\n", levels=True)
    mount: TsmProcess = request.getfixturevalue("snp_mount")
    return LinuxTsm(mount.report_root)


def test_a_level_counts_as_a_store(tsm: TsmFilesystem) -> None:
    with TsmReport(tsm) as report:
        floor = report.privilege_floor()
        assert floor is not None
        report.set_privilege(floor)
        assert report.generation() == 1
        assert report.store(ReportData(DATA)) == 2


@pytest.mark.parametrize("text", [b"4\n", b"99", b"-1\n", b"x\n", b"\n"])
def test_a_level_out_of_range_is_invalid_and_not_counted(tsm: TsmFilesystem, text: bytes) -> None:
    with TsmReport(tsm) as report:
        with refused(errno.EINVAL):
            tsm.write(report.name, "privlevel", text)
        assert report.generation() == 0


def test_certificates_come_with_a_report(tsm: TsmFilesystem) -> None:
    with TsmReport(tsm) as report:
        for attribute in ("auxblob", "manifestblob"):
            with refused(errno.EINVAL):
                tsm.read(report.name, attribute, LIMIT)
        report.store(ReportData(DATA))
        assert report.certificates()
        assert report.manifest()
        assert DATA in tsm.read(report.name, "outblob", LIMIT)
        assert report.generation() == 1


@pytest.mark.parametrize("attribute", ["auxblob", "manifestblob", "privlevel_floor"])
def test_what_is_read_cannot_be_written(tsm: TsmFilesystem, attribute: str) -> None:
    with TsmReport(tsm) as report, refused(errno.EACCES):
        tsm.write(report.name, attribute, b"1")


def test_a_level_cannot_be_read_back(tsm: TsmFilesystem) -> None:
    with TsmReport(tsm) as report, refused(errno.EACCES):
        tsm.read(report.name, "privlevel", LIMIT)


def test_the_level_is_in_the_report(snp_mount: TsmProcess) -> None:
    tsm = LinuxTsm(snp_mount.report_root)
    with TsmReport(tsm) as report:
        report.set_privilege(3)
        report.store(ReportData(DATA))
        blob = tsm.read(report.name, "outblob", LIMIT)
        assert (blob[48], blob[80:144]) == (3, DATA)
        assert (report.certificates(), report.manifest()) == (CERTIFICATES, MANIFEST)


@pytest.mark.parametrize(
    ("attribute", "text", "code", "counted"),
    [
        ("service_provider", b"svsm\n", 0, 1),
        ("service_guid", b"c476f1eb-0123-45a5-9641-b4e7dde5bfe3\n", 0, 1),
        ("service_guid", b"c476f1eb\n", errno.EINVAL, 1),
        ("service_manifest_version", b"0x10\n", 0, 1),
        ("service_manifest_version", b"one\n", errno.EINVAL, 0),
    ],
)
def test_services(
    snp_mount: TsmProcess, attribute: str, text: bytes, code: int, counted: int
) -> None:
    tsm = LinuxTsm(snp_mount.report_root)
    with TsmReport(tsm) as report:
        if code:
            with refused(code):
                tsm.write(report.name, attribute, text)
        else:
            assert tsm.write(report.name, attribute, text) == len(text)
        assert report.generation() == counted  # a bad GUID fails after it has counted


@pytest.mark.parametrize(
    ("text", "value"), [(b"3", 3), (b"+3\n", 3), (b"0x1F", 31), (b"010\n", 8), (b"0", 0)]
)
def test_numbers_as_the_kernel_reads_them(text: bytes, value: int) -> None:
    assert unsigned(text) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [(b"", errno.EINVAL), (b"09", errno.EINVAL), (b"1\n\n", errno.EINVAL), (b" 1", errno.EINVAL),
     (b"4294967296", errno.ERANGE)],
)  # fmt: skip
def test_numbers_the_kernel_refuses(text: bytes, code: int) -> None:
    with pytest.raises(SyscallError) as caught:
        unsigned(text)
    assert caught.value.errno == code
