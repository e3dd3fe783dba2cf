"""TDREPORT bytes to a frozen value, with the two hashes that tie its parts together checked.

A TDREPORT is what the TDX module says to this machine; its MAC can be checked only there, so it
proves nothing elsewhere. Source: Intel TDX module ABI specification (TDREPORT_STRUCT), offsets as
in Linux drivers/virt/coco/tdx-guest/tdx-guest.c.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from tdx.attributes import TdAttributes
from tdx.errors import ReportFormatError
from tdx.layout import Layout

REPORT_BYTES: Final = 1024
TYPE_TDX: Final = 0x81

REPORT_MAC: Final = Layout(
    ("report_type", 4),  # type, subtype, version, reserved
    ("", 12),
    ("cpu_svn", 16),
    ("tee_tcb_info_hash", 48),
    ("td_info_hash", 48),
    ("report_data", 64),
    ("", 32),
    ("mac", 32),
)
TEE_TCB_INFO: Final = Layout(
    ("valid", 8),
    ("tee_tcb_svn", 16),
    ("mr_seam", 48),
    ("mrsigner_seam", 48),
    ("attributes", 8),
    ("tee_tcb_svn2", 16),  # reserved in TDX 1.0
    ("", 95),
)
TCB_INFO_GAP: Final = 17  # bytes between TEE_TCB_INFO and TDINFO, in neither hash
TD_INFO: Final = Layout(
    ("td_attributes", 8),
    ("xfam", 8),
    ("mr_td", 48),
    ("mr_config_id", 48),
    ("mr_owner", 48),
    ("mr_owner_config", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("servtd_hash", 48),  # reserved in TDX 1.0
    ("", 64),
)
TCB_INFO_AT: Final = REPORT_MAC.size
TD_INFO_AT: Final = TCB_INFO_AT + TEE_TCB_INFO.size + TCB_INFO_GAP


@dataclass(frozen=True, slots=True)
class TeeTcbInfo:
    """The TDX module. ``valid`` has a bit for each field, 0x1FF in TDX 1.0, 0x301FF in 1.5."""

    valid: bytes
    tee_tcb_svn: bytes
    mr_seam: bytes
    mrsigner_seam: bytes
    attributes: bytes
    tee_tcb_svn2: bytes


@dataclass(frozen=True, slots=True)
class TdInfo:
    """The trust domain."""

    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    servtd_hash: bytes

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        return (self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3)

    @property
    def attributes(self) -> TdAttributes:
        return TdAttributes.of(self.td_attributes)


@dataclass(frozen=True, slots=True)
class TdReport:
    """A report of consistent parts. Whether the module made it is not known outside its machine."""

    report_type: bytes
    cpu_svn: bytes
    tee_tcb_info_hash: bytes
    td_info_hash: bytes
    report_data: bytes
    mac: bytes = field(repr=False)
    tee_tcb_info: TeeTcbInfo
    td_info: TdInfo


def parse_tdreport(data: bytes) -> TdReport:
    """Parse exactly 1024 bytes and check type and both hashes.

    Raises :class:`ReportFormatError`, and nothing else on any bytes.
    """
    if len(data) != REPORT_BYTES:
        got = f"{len(data)} bytes"
        raise ReportFormatError("report", 0, expected=f"{REPORT_BYTES} bytes", got=got)
    head = REPORT_MAC.cut(data)
    if head["report_type"][0] != TYPE_TDX:
        got = hex(data[0])
        raise ReportFormatError("report type", 0, expected="0x81 (TDX)", got=got)
    _check_hash(data, "tee_tcb_info_hash", TCB_INFO_AT, TEE_TCB_INFO.size)
    _check_hash(data, "td_info_hash", TD_INFO_AT, TD_INFO.size)
    return TdReport(
        **head,
        tee_tcb_info=TeeTcbInfo(**TEE_TCB_INFO.cut(data, TCB_INFO_AT)),
        td_info=TdInfo(**TD_INFO.cut(data, TD_INFO_AT)),
    )


def _check_hash(data: bytes, name: str, start: int, size: int) -> None:
    offset, length = next((at, n) for field, at, n in REPORT_MAC.offsets() if field == name)
    stored = data[offset : offset + length]
    real = hashlib.sha384(data[start : start + size]).digest()
    if stored != real:
        expected = f"SHA-384 of bytes {start} to {start + size - 1}"
        raise ReportFormatError(name, offset, expected=expected, got=stored.hex()[:16] + "…")
