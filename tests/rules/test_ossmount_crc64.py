"""CRC-64/XZ: the catalogued check value, and combination for every way to cut a text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ossmount.crc64 import combine, crc64


def test_the_check_value() -> None:
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combining_equals_summing_at_once(first: bytes, second: bytes) -> None:
    whole = crc64(first + second)
    assert combine(crc64(first), crc64(second), len(second)) == whole
    assert crc64(second, crc64(first)) == whole


def test_long_second_parts() -> None:
    zeros = bytes(8 << 20)
    assert combine(crc64(b"head"), crc64(zeros), len(zeros)) == crc64(b"head" + zeros)
