"""The ACPI table of the event log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mocktee.bootlog import LOG_AREA_ADDRESS, LOG_AREA_BYTES, ccel_table
from tdx.ccel_table import TABLE, parse_ccel_table
from tdx.errors import EventLogError

GOOD = ccel_table()


def test_recorded_tables_decode_to_the_recorded_values(shared_vectors: Path) -> None:
    tables = json.loads((shared_vectors / "tdx" / "expected.json").read_text())["ccel_tables"]
    assert len(tables) == 2
    for name, expected in tables.items():
        found = parse_ccel_table((shared_vectors / "tdx" / name).read_bytes())
        assert found.log_area_start_address == int(expected["log_area_start_address"], 16)
        for field in ("revision", "oem_id", "oem_table_id", "cc_type", "cc_subtype",
                      "log_area_minimum_length"):  # fmt: skip
            assert getattr(found, field) == expected[field], (name, field)


def test_the_mock_table_reads_back() -> None:
    assert TABLE.size == 56
    found = parse_ccel_table(GOOD)
    assert found.log_area_minimum_length == LOG_AREA_BYTES
    assert found.log_area_start_address == LOG_AREA_ADDRESS


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(GOOD[:-1], "ACPI table", id="short"),
        pytest.param(GOOD + b"\0", "ACPI table", id="long"),
        pytest.param(b"XCEL" + GOOD[4:], "ACPI table signature", id="signature"),
        pytest.param(GOOD[:4] + b"\x39" + GOOD[5:], "ACPI table length", id="length"),
        pytest.param(GOOD[:-1] + b"\1", "ACPI table checksum", id="checksum"),
    ],
)
def test_others_are_refused(data: bytes, field: str) -> None:
    with pytest.raises(EventLogError) as caught:
        parse_ccel_table(data)
    assert caught.value.field == field


@given(st.integers(0, 55), st.integers(1, 255))
def test_one_changed_byte_is_seen(at: int, change: int) -> None:
    data = bytearray(GOOD)
    data[at] ^= change
    with pytest.raises(EventLogError):
        parse_ccel_table(bytes(data))
