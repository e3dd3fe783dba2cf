"""Device paths as text, after the UEFI specification, and arbitrary bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx.uefi import device_path, parse_loaded_image, parse_variable

END = b"\x7f\xff\4\0"
GUID = bytes(range(16))
TEXT = "03020100-0504-0706-0809-0A0B0C0D0E0F"


def node(kind: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param(node(2, 1, struct.pack("<II", 0x0A0341D0, 0)) + node(1, 1, b"\0\4"),
                     "PciRoot(0x0)/Pci(0x4,0x0)", id="PCI"),
        pytest.param(node(2, 1, struct.pack("<II", 0x050141D0, 1)), "Acpi(PNP0501,0x1)",
                     id="serial port"),
        pytest.param(node(2, 1, struct.pack("<II", 0x12345678, 1)), "Acpi(0x12345678,0x1)",
                     id="another bus"),
        pytest.param(node(4, 1, struct.pack("<IQQ", 1, 0x800, 0x100) + GUID + b"\2\2"),
                     f"HD(1,GPT,{TEXT},0x800,0x100)", id="GPT"),
        pytest.param(node(4, 1, struct.pack("<IQQ", 1, 2, 3) + GUID + b"\1\1"),
                     "HD(1,MBR,03020100,0x2,0x3)", id="MBR"),
        pytest.param(node(4, 3, GUID) + node(4, 4, "kernel\0".encode("utf-16-le")) + END,
                     f"VenMedia({TEXT})/kernel", id="direct boot"),
        pytest.param(node(4, 7, GUID) + node(4, 6, GUID), f"Fv({TEXT})/FvFile({TEXT})",
                     id="volume"),
        pytest.param(node(3, 23, b"\1\2"), "Path(3,23,0102)", id="unknown node"),
        pytest.param(node(1, 1, b"\0\4") + b"\1\1\3\0", "Pci(0x4,0x0)", id="length below 4"),
        pytest.param(node(1, 1, b"\0\4") + b"\1\1\xff\0", "Pci(0x4,0x0)", id="length over end"),
    ],
)  # fmt: skip
def test_paths(data: bytes, text: str) -> None:
    assert device_path(data) == text


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    device_path(data)
    parse_variable(data)
    parse_loaded_image(data)


def test_a_path_has_a_limit() -> None:
    assert device_path(node(1, 1, b"\0\0") * 1000).count("/") == 31
