"""Which interfaces of a TD are used: the order of detection, and each way by force."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import AgentConfig, QuoteSourceName, TeeConfig
from agent.errors import TeeAbsentError
from agent.tee import find_tee
from lifecycle import SettingsError
from mocktee.guest_device import GuestKernel, MockGuestDevice
from mocktee.pki import MockPki
from mocktee.qgs import MockQgs
from mocktee.td import TdState
from tdx.errors import DeviceAbsentError, MeasurementError, QgsAddressError
from tdx.guest_device import DeviceAbi
from tdx.ioctl_source import IoctlQuoteSource
from tdx.measurements import MeasurementRegisters
from tdx.qgs_source import QgsQuoteSource
from tdx.report_data import ReportData
from tdx.report_registers import ReportRegisters
from tdx.tsm import LinuxTsm
from tests.ports.fake_tsm import FakeTsm
from tests.settings_text import decode_toml

PKI = MockPki.create()
DIGEST = hashlib.sha384(b"event").digest()


@pytest.fixture
def device() -> MockGuestDevice:
    td = TdState.booted(mrconfigid=b"\7" * 48)
    return MockGuestDevice(td, MockQgs(PKI, td), GuestKernel.VENDOR)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """A machine with a guest device and nothing else."""
    return {
        "report_path": str(tmp_path / "tsm/report"),
        "measurements_path": str(tmp_path / "measurements"),
        "attest_conf_path": str(tmp_path / "tdx-attest.conf"),
        "guest_device": os.devnull,
    }


@pytest.fixture
def fake_tsm(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTsm]:
    """configfs-tsm that is there, behind whatever path is configured."""
    tsm = FakeTsm()
    for name in ("mkdir", "rmdir", "entries", "read", "write"):
        monkeypatch.setattr(LinuxTsm, name, staticmethod(getattr(tsm, name)))
    yield tsm
    assert tsm.table == {}


def tee(settings: dict[str, object], **changes: object) -> TeeConfig:
    return TeeConfig(**(settings | changes))  # type: ignore[arg-type]


def test_configfs_comes_first(
    settings: dict[str, object], fake_tsm: FakeTsm, device: MockGuestDevice
) -> None:
    found = find_tee(tee(settings, qgs_address="vsock:2:4050"), ioctl=device.ioctl)
    assert found.quotes.describe().startswith(str(settings["report_path"]))
    assert found.quotes.take(ReportData(bytes(64))).body.report_data == bytes(64)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENXIO])
def test_a_configured_qgs_follows_where_configfs_is_absent(
    settings: dict[str, object], fake_tsm: FakeTsm, device: MockGuestDevice, code: int
) -> None:
    fake_tsm.fail("mkdir", code)
    found = find_tee(tee(settings, qgs_address="unix:/run/qgs.sock"), ioctl=device.ioctl)
    assert isinstance(found.quotes, QgsQuoteSource)
    assert found.quotes.describe() == "unix:/run/qgs.sock"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_a_failing_configfs_is_not_absent(
    settings: dict[str, object], fake_tsm: FakeTsm, device: MockGuestDevice, code: int
) -> None:
    fake_tsm.fail("mkdir", code)
    with pytest.raises(TeeAbsentError, match=errno.errorcode[code]):
        find_tee(tee(settings, qgs_address="unix:/run/qgs.sock"), ioctl=device.ioctl)


def test_another_tee_ends_the_search(
    settings: dict[str, object], fake_tsm: FakeTsm, device: MockGuestDevice
) -> None:
    fake_tsm.provider = b"sev_guest\n"
    with pytest.raises(TeeAbsentError, match="sev_guest"):
        find_tee(tee(settings, qgs_address="unix:/run/qgs.sock"), ioctl=device.ioctl)


def test_the_port_of_intels_file(
    settings: dict[str, object], tmp_path: Path, device: MockGuestDevice
) -> None:
    path = tmp_path / "tdx-attest.conf"
    path.write_text("# host\nport = 4050\n")
    found = find_tee(tee(settings), ioctl=device.ioctl)
    assert found.quotes.describe() == "vsock:2:4050"
    path.write_bytes(bytes(65537))
    with pytest.raises(QgsAddressError, match="larger"):
        find_tee(tee(settings), ioctl=device.ioctl)
    path.unlink()
    path.mkdir()
    with pytest.raises(QgsAddressError, match="EISDIR"):
        find_tee(tee(settings), ioctl=device.ioctl)


def test_nothing_configured_and_no_configfs(
    settings: dict[str, object], device: MockGuestDevice
) -> None:
    # The device has the quote ioctl; it is not tried out.
    with pytest.raises(TeeAbsentError, match="ENOENT"):
        find_tee(tee(settings, guest_device_abi=DeviceAbi.VENDOR), ioctl=device.ioctl)


@pytest.mark.parametrize(
    ("source", "changes", "words"),
    [
        ("configfs", {"qgs_address": "vsock:2:4050"}, "ENOENT"),
        ("qgs", {}, "no address"),
    ],
)
def test_a_forced_source_is_that_one_or_none(
    settings: dict[str, object],
    device: MockGuestDevice,
    source: str,
    changes: dict[str, object],
    words: str,
) -> None:
    forced = tee(settings, quote_source=QuoteSourceName(source), **changes)
    with pytest.raises(TeeAbsentError, match=words):
        find_tee(forced, ioctl=device.ioctl)


def test_a_forced_qgs_passes_configfs_by(
    settings: dict[str, object], fake_tsm: FakeTsm, device: MockGuestDevice
) -> None:
    forced = tee(settings, quote_source=QuoteSourceName.QGS, qgs_address="vsock:2:4050")
    assert isinstance(find_tee(forced, ioctl=device.ioctl).quotes, QgsQuoteSource)
    assert not fake_tsm.calls


def test_the_ioctl_by_force(settings: dict[str, object], device: MockGuestDevice) -> None:
    forced = tee(settings, quote_source=QuoteSourceName.IOCTL, guest_device_abi=DeviceAbi.VENDOR)
    found = find_tee(forced, ioctl=device.ioctl)
    assert isinstance(found.quotes, IoctlQuoteSource)
    assert found.quotes.take(ReportData(bytes(64))).body.rtmrs == tuple(device.td.rtmrs)


def test_a_node_that_gives_no_report_is_no_td(settings: dict[str, object]) -> None:
    forced = tee(settings, quote_source=QuoteSourceName.QGS, qgs_address="vsock:2:4050")
    with pytest.raises(TeeAbsentError, match="ENOTTY"):
        find_tee(forced)  # the system call itself, on /dev/null
    with pytest.raises(DeviceAbsentError, match="does not exist"):
        find_tee(tee(settings, guest_device="/dev/absent/tdx_guest"))


# Registers.


def test_registers_come_from_sysfs_first(
    settings: dict[str, object], tmp_path: Path, device: MockGuestDevice
) -> None:
    (tmp_path / "measurements").mkdir()
    (tmp_path / "measurements" / "mrconfigid").write_bytes(b"\1" * 48)
    forced = tee(settings, quote_source=QuoteSourceName.QGS, qgs_address="vsock:2:4050")
    found = find_tee(forced, ioctl=device.ioctl)
    assert isinstance(found.registers, MeasurementRegisters)
    assert found.registers.read("mrconfigid") == b"\1" * 48
    assert found.extendable


@pytest.mark.parametrize("abi", DeviceAbi)
def test_registers_come_from_reports_else(
    settings: dict[str, object], device: MockGuestDevice, abi: DeviceAbi
) -> None:
    forced = tee(
        settings,
        quote_source=QuoteSourceName.QGS,
        qgs_address="vsock:2:4050",
        guest_device_abi=abi,
    )
    found = find_tee(forced, ioctl=device.ioctl)
    assert isinstance(found.registers, ReportRegisters)
    assert found.registers.read("mrconfigid") == b"\7" * 48
    assert found.extendable == (abi in {DeviceAbi.VENDOR, DeviceAbi.VENDOR_V3})
    if abi is DeviceAbi.VENDOR:
        found.registers.extend(3, DIGEST)
        assert device.td.rtmrs[3] == hashlib.sha384(bytes(48) + DIGEST).digest()


def test_registers_that_cannot_be_looked_for(
    settings: dict[str, object], tmp_path: Path, device: MockGuestDevice
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MeasurementError, match="ENOTDIR"):
        find_tee(tee(settings, measurements_path=str(tmp_path / "file/x")), ioctl=device.ioctl)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('quote_source = "ioctl"', "guest_device_abi mainline has none"),
        ('qgs_address = "tcp:1"', "vsock:CID:PORT"),
        ('quote_source = "sgx"', "quote_source"),
        ('guest_device = "tdx_guest"', "tee.guest_device"),
        ('initdata = "disk"', "tee.initdata"),
    ],
)
def test_a_configuration_that_could_only_fail_later(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        decode_toml(f"[tee]\n{text}\n".encode(), AgentConfig, "aa.toml")


def test_the_keys_of_the_configuration_file() -> None:
    text = b"""[tee]
quote_source = "ioctl"
qgs_address = "vsock:2:4050"
guest_device = "/dev/tdx-guest"
guest_device_abi = "vendor-v3"
initdata = "device"
"""
    config = decode_toml(text, AgentConfig, "aa.toml").tee
    assert (config.quote_source, config.guest_device_abi) == ("ioctl", "vendor-v3")
    assert config.attest_conf_path == "/etc/tdx-attest.conf"
