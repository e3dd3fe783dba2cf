"""CRC-64/XZ, the checksum OSS calls ``crc64ecma``: incremental, and combined from parts."""

from __future__ import annotations

from typing import Final

from fastcrc import crc64

# Reflected form of the ECMA-182 polynomial.
_POLYNOMIAL: Final = 0xC96C5795D7870F42


def update(crc: int, data: bytes | bytearray | memoryview) -> int:
    """The checksum of what gave ``crc`` followed by ``data``; start with 0."""
    return int(crc64.xz(data, crc))


def combine(first: int, second: int, second_length: int) -> int:
    """The checksum of A+B from those of A and B and the length of B in bytes.

    Appending zero bytes is a linear map over GF(2); it is applied by repeated squaring, as zlib
    does for CRC-32.
    """
    if second_length == 0:
        return first
    operator = _squared(_squared(_squared(_one_zero_bit())))  # eight zero bits: one byte
    while second_length:
        if second_length & 1:
            first = _apply(operator, first)
        second_length >>= 1
        if second_length:
            operator = _squared(operator)
    return first ^ second


def _one_zero_bit() -> list[int]:
    return [_POLYNOMIAL, *(1 << bit for bit in range(63))]


def _apply(operator: list[int], vector: int) -> int:
    total, row = 0, 0
    while vector:
        if vector & 1:
            total ^= operator[row]
        vector >>= 1
        row += 1
    return total


def _squared(operator: list[int]) -> list[int]:
    return [_apply(operator, row) for row in operator]
