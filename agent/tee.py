"""Which interfaces of this TD the agent uses: the order of detection, and how to force it.

Quotes, with ``[tee] quote_source``:

``auto``
    1. configfs-tsm, if its provider is TDX's. An interface of another TEE ends the search.
    2. The host's Quote Generation Service, if its address is configured, by ``qgs_address`` or
       by a port in ``/etc/tdx-attest.conf``, and the guest device gives a TDREPORT.
    The quote ioctl is never tried out: its number means other things to other kernels.
``configfs``, ``qgs``, ``ioctl``
    This one or a failed start. ``ioctl`` needs ``guest_device_abi``, as ``qgs`` needs an address.

Registers: sysfs (Linux 6.16) if it is there, else a TDREPORT from the guest device, the first of
``/dev/tdx_guest``, ``/dev/tdx-guest``, ``/dev/tdx-attest``. They are extended through sysfs, else
by ioctl where ``guest_device_abi`` names one, else not at all. Only "it does not exist" leads to
the next way; any other error ends the search.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agent.config import QuoteSourceName, TeeConfig
from agent.detection import ABSENT_HINT, require_tdx
from agent.errors import TeeAbsentError
from secrecy.journal import get_logger
from tdx.errors import (
    DeviceAbsentError,
    GuestDeviceError,
    QgsAddressError,
    ReportFormatError,
    TsmError,
    errno_text,
)
from tdx.guest_device import (
    DEVICE_PATHS,
    Ioctl,
    LinuxGuestDevice,
    find_guest_device,
    fresh_report,
)
from tdx.ioctl_source import IoctlQuoteSource
from tdx.measurements import MeasurementRegisters, RegisterName
from tdx.qgs import HOST_CID, QgsAddress, port_in_attest_conf
from tdx.qgs_source import QgsQuoteSource
from tdx.quote_source import QuoteSource
from tdx.report_data import ReportData
from tdx.report_registers import ReportRegisters
from tdx.tsm import LinuxTsm
from tdx.tsm_report import TsmQuoteSource, sweep_entries

log = get_logger("agent")

MAX_ATTEST_CONF_BYTES: Final = 64 * 1024
NOT_THERE: Final = (errno.ENOENT, errno.ENXIO)


class TdRegisters(Protocol):
    """All measurement registers of this TD."""

    def read(self, name: RegisterName) -> bytes:
        """Return 48 bytes. Raises :class:`~tdx.errors.MeasurementError`."""

    def read_rtmr(self, rtmr: int) -> bytes:
        """Return RTMR ``rtmr`` (0 to 3)."""

    def extend(self, rtmr: int, digest: bytes) -> None:
        """Extend once. Raises :class:`~tdx.errors.MeasurementError`."""


@dataclass(frozen=True, slots=True)
class TeeInterfaces:
    """What was found."""

    quotes: QuoteSource
    registers: TdRegisters
    extendable: bool  # whether this kernel offers a way to extend an RTMR


def find_tee(settings: TeeConfig, *, ioctl: Ioctl = fcntl.ioctl) -> TeeInterfaces:
    """Find the interfaces of this TD. Blocks. ``ioctl`` is the system call on the device.

    Leaves nothing behind but removes report entries of dead processes of ours. Raises
    :class:`~agent.errors.TeeAbsentError` and :class:`~tdx.errors.TdxError`.
    """
    device = _guest_device(settings, ioctl)
    registers, extendable = _registers(settings, device)
    return TeeInterfaces(_quote_source(settings, device), registers, extendable)


def _guest_device(settings: TeeConfig, ioctl: Ioctl) -> LinuxGuestDevice | None:
    paths = (Path(settings.guest_device),) if settings.guest_device else DEVICE_PATHS
    path = find_guest_device(paths)
    if path is None and settings.guest_device:
        hint = "correct tee.guest_device, or leave it out"
        raise DeviceAbsentError("look for", settings.guest_device, "it does not exist", hint=hint)
    if path is None:
        return None
    return LinuxGuestDevice(path, settings.guest_device_abi, ioctl=ioctl)


def _registers(settings: TeeConfig, device: LinuxGuestDevice | None) -> tuple[TdRegisters, bool]:
    registers = MeasurementRegisters(Path(settings.measurements_path))
    if registers.available():
        return registers, True
    if device is None:
        return registers, False
    log.info("registers are read from TDREPORTs", device=device.describe())
    in_reports = ReportRegisters(device)
    return in_reports, in_reports.extendable


def _quote_source(settings: TeeConfig, device: LinuxGuestDevice | None) -> QuoteSource:
    match settings.quote_source:
        case QuoteSourceName.CONFIGFS:
            return _configfs(settings)
        case QuoteSourceName.QGS:
            address = _qgs_address(settings)
            if address is None:
                problem = "got quote_source qgs and no address of a QGS"
                raise TeeAbsentError(problem, hint="set tee.qgs_address, such as vsock:2:4050")
            return QgsQuoteSource(_tdx_device(device), address)
        case QuoteSourceName.IOCTL:
            return IoctlQuoteSource(_tdx_device(device))
        case QuoteSourceName.AUTO:
            return _first_found(settings, device)


def _first_found(settings: TeeConfig, device: LinuxGuestDevice | None) -> QuoteSource:
    try:
        return _configfs(settings)
    except TeeAbsentError as error:
        address = _qgs_address(settings) if is_absent(error) else None
        if address is None:
            raise
        source = QgsQuoteSource(_tdx_device(device), address)
        log.info("quotes come from the host's QGS", address=str(address))
        return source


def is_absent(error: TeeAbsentError) -> bool:
    """Whether configfs-tsm is not there, as opposed to there and failing."""
    cause = error.__cause__
    system = cause.__cause__ if isinstance(cause, TsmError) else None
    return isinstance(system, OSError) and system.errno in NOT_THERE


def _configfs(settings: TeeConfig) -> QuoteSource:
    tsm = LinuxTsm(Path(settings.report_path))
    require_tdx(tsm)
    swept = sweep_entries(tsm)
    if swept:
        log.warning("stale report entries removed", count=len(swept))
    return TsmQuoteSource(tsm)


def _tdx_device(device: LinuxGuestDevice | None) -> LinuxGuestDevice:
    """Return the device once it has given a TDREPORT: a node alone proves nothing."""
    if device is None:
        raise TeeAbsentError("got no TDX guest device", hint=ABSENT_HINT)
    try:
        fresh_report(device, ReportData(bytes(64)))
    except (GuestDeviceError, ReportFormatError) as error:
        raise TeeAbsentError(f"got: {error.problem}", hint=error.hint or ABSENT_HINT) from error
    return device


def _qgs_address(settings: TeeConfig) -> QgsAddress | None:
    if settings.qgs_address:
        return QgsAddress.parse(settings.qgs_address)
    path = settings.attest_conf_path
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_ATTEST_CONF_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = f"cannot be read: {errno_text(error.errno or 0)}"
        raise QgsAddressError(os.fspath(path), problem) from error
    if len(text) > MAX_ATTEST_CONF_BYTES:
        raise QgsAddressError(os.fspath(path), f"larger than {MAX_ATTEST_CONF_BYTES} bytes")
    port = port_in_attest_conf(text.decode("utf-8", "replace"))
    return None if port is None else QgsAddress((HOST_CID, port))
