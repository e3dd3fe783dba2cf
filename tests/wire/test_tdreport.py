"""TDREPORTs: recorded ones, one that is none, and every flipped byte."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx.description import describe_tdreport
from tdx.errors import ReportFormatError
from tdx.quote import parse_quote
from tdx.tdreport import (
    REPORT_BYTES,
    REPORT_MAC,
    TD_INFO,
    TD_INFO_AT,
    TEE_TCB_INFO,
    parse_tdreport,
)

GOOD = ("guest_components_1.bin", "azure.bin")


def read(vectors: Path, name: str) -> bytes:
    return (vectors / "tdx" / "tdreports" / name).read_bytes()


def hexed(value: Any) -> dict[str, str]:
    fields = dataclasses.asdict(value)
    return {name: item.hex() for name, item in fields.items() if isinstance(item, bytes)}


def test_layouts_are_those_of_the_module() -> None:
    assert (REPORT_MAC.size, TEE_TCB_INFO.size, TD_INFO.size) == (256, 239, 512)
    assert TD_INFO_AT == 512


def test_recorded_reports_decode_to_the_recorded_values(shared_vectors: Path) -> None:
    recorded = json.loads((shared_vectors / "tdx" / "expected.json").read_text())["tdreports"]
    for name in GOOD:
        expected = recorded[f"tdreports/{name}"]
        report = parse_tdreport(read(shared_vectors, name))
        for field, value in hexed(report).items():
            assert value == expected[field], (name, field)
        assert hexed(report.tee_tcb_info) == expected["tee_tcb_info"]
        td_info = {"attributes" if k == "td_attributes" else k: v
                   for k, v in hexed(report.td_info).items()}  # fmt: skip
        assert td_info == expected["td_info"]
        assert report.td_info.rtmrs[3].hex() == expected["td_info"]["rtmr3"]


def test_report_and_quote_of_one_td_agree(shared_vectors: Path) -> None:
    report = parse_tdreport(read(shared_vectors, "azure.bin"))
    quote = parse_quote((shared_vectors / "tdx" / "quotes" / "azure_v4.bin").read_bytes())
    assert report.td_info.mr_td == quote.body.mr_td
    assert report.report_data == quote.body.report_data
    assert report.td_info.attributes == quote.body.attributes


def test_other_bytes_of_that_size_are_refused(shared_vectors: Path) -> None:
    with pytest.raises(ReportFormatError, match="report type at byte 0"):
        parse_tdreport(read(shared_vectors, "not_a_tdreport_gotdx.bin"))


@pytest.mark.parametrize("size", [0, 512, 1023, 1025])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ReportFormatError, match="expected 1024 bytes"):
        parse_tdreport(b"\x81" * size)


def test_a_flip_in_a_hashed_part_is_seen(shared_vectors: Path) -> None:
    base = read(shared_vectors, GOOD[0])
    for at in range(REPORT_BYTES):
        data = bytearray(base)
        data[at] ^= 1
        if 256 <= at < 495 or at >= 512 or 32 <= at < 128 or at == 0:
            with pytest.raises(ReportFormatError):
                parse_tdreport(bytes(data))
        else:
            parse_tdreport(bytes(data))


@given(st.binary(min_size=1023, max_size=1024))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    for candidate in (data, b"\x81" + data[1:]):
        with pytest.raises(ReportFormatError):
            parse_tdreport(candidate)


def test_description_has_stable_names(shared_vectors: Path) -> None:
    described = describe_tdreport(parse_tdreport(read(shared_vectors, GOOD[0])))
    body = described["body"]
    assert isinstance(body, dict)
    assert list(body) == [
        "td_attributes", "xfam", "mr_td", "mr_config_id", "mr_owner", "mr_owner_config",
        "rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3", "servtd_hash",
    ]  # fmt: skip
    assert set(described) == {"header", "tee_tcb_info", "body"}
