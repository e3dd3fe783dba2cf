"""Builds TDREPORTs of a mock trust domain: hashes computed, MAC random.

Layout: Intel TDX module ABI specification (TDREPORT_STRUCT). On hardware the MAC can be checked
on the same machine only; here nobody can, and a reader must not need to.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from typing import Final

from mocktee.td import TdState

REPORT_BYTES: Final = 1024
REPORT_DATA_BYTES: Final = 64
REPORT_DATA_AT: Final = 128
TCB_INFO: Final = slice(256, 256 + 239)
TD_INFO: Final = slice(512, 1024)
TYPE_TDX: Final = 0x81
VALID_TDX_15: Final = 0x301FF
CPU_SVN: Final = bytes.fromhex("0202181a03ff00060000000000000000")


def build_tdreport(td: TdState, report_data: bytes) -> bytes:
    """A report over ``td`` as it is now. ``report_data`` is exactly 64 bytes."""
    tcb_info = struct.pack("<Q16s48s48sQ16s95x", VALID_TDX_15, td.tee_tcb_svn, td.mr_seam,
                           td.mrsigner_seam, 0, td.tee_tcb_svn)  # fmt: skip
    td_info = struct.pack("<QQ", td.attributes, td.xfam)
    td_info += b"".join((td.mrtd, td.mrconfigid, td.mrowner, td.mrownerconfig, *td.rtmrs))
    td_info = td_info.ljust(512, b"\0")  # service TD hash and reserved bytes
    head = struct.pack(
        "<I12x16s48s48s64s32x32s",
        TYPE_TDX,
        CPU_SVN,
        hashlib.sha384(tcb_info).digest(),
        hashlib.sha384(td_info).digest(),
        report_data,
        secrets.token_bytes(32),
    )
    return head + tcb_info + bytes(17) + td_info


def report_data_of(report: bytes) -> bytes | None:
    """The report data of a well-formed report, None for anything else."""
    if len(report) != REPORT_BYTES or report[0] != TYPE_TDX:
        return None
    hashes = (hashlib.sha384(report[part]).digest() for part in (TCB_INFO, TD_INFO))
    if list(hashes) != [report[32:80], report[80:128]]:
        return None
    return report[REPORT_DATA_AT : REPORT_DATA_AT + REPORT_DATA_BYTES]
