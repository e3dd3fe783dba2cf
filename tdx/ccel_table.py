"""The ACPI table that says where the boot event log lies. The log itself is beside it in sysfs.

Source: UEFI 2.11 section 38.4.2, ACPI 6.5 section 5.2.34 (CC Event Log ACPI table).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tdx.errors import EventLogError
from tdx.layout import Layout

SIGNATURE: Final = b"CCEL"
CC_TYPES: Final = {1: "SEV", 2: "TDX"}

TABLE: Final = Layout(
    ("signature", 4),
    ("length", 4),
    ("revision", 1),
    ("checksum", 1),
    ("oem_id", 6),
    ("oem_table_id", 8),
    ("oem_revision", 4),
    ("creator_id", 4),
    ("creator_revision", 4),
    ("cc_type", 1),
    ("cc_subtype", 1),
    ("", 2),
    ("log_area_minimum_length", 8),
    ("log_area_start_address", 8),
)


@dataclass(frozen=True, slots=True)
class CcelTable:
    """``log_area_start_address`` is guest physical."""

    revision: int
    oem_id: str
    oem_table_id: str
    cc_type: int
    cc_subtype: int
    log_area_minimum_length: int
    log_area_start_address: int


def parse_ccel_table(data: bytes) -> CcelTable:
    """Parse exactly one table. Raises :class:`EventLogError`, and nothing else on any bytes."""
    if len(data) != TABLE.size:
        expected = f"{TABLE.size} bytes"
        raise EventLogError("ACPI table", 0, expected=expected, got=str(len(data)))
    fields = TABLE.cut(data)
    if fields["signature"] != SIGNATURE:
        got = fields["signature"].hex()
        raise EventLogError("ACPI table signature", 0, expected="CCEL", got=got)
    length = int.from_bytes(fields["length"], "little")
    if length != TABLE.size:
        raise EventLogError("ACPI table length", 4, expected=str(TABLE.size), got=str(length))
    if sum(data) % 256:
        got = f"{sum(data) % 256}"
        raise EventLogError("ACPI table checksum", 9, expected="a sum of 0 modulo 256", got=got)
    return CcelTable(
        revision=fields["revision"][0],
        oem_id=fields["oem_id"].decode("ascii", "replace"),
        oem_table_id=fields["oem_table_id"].decode("ascii", "replace"),
        cc_type=fields["cc_type"][0],
        cc_subtype=fields["cc_subtype"][0],
        log_area_minimum_length=int.from_bytes(fields["log_area_minimum_length"], "little"),
        log_area_start_address=int.from_bytes(fields["log_area_start_address"], "little"),
    )
