"""CRC-64 as OSS computes it (CRC-64/XZ) and its combination over concatenated parts.

The check value of ``123456789`` is 0x995dc9bbdf1939fa; OSS writes it as an unsigned decimal in
``x-oss-hash-crc64ecma``. The sum itself is fastcrc's, which runs at memory speed, so callers
need no thread for it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fastcrc import crc64 as fast

POLYNOMIAL: Final = 0xC96C5795D7870F42  # 0x42F0E1EBA9EA3693 reflected
_ONE: Final = 1 << 63  # the polynomial 1 in reflected bit order


def crc64(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """Return the CRC-64 of ``data``, continuing from ``initial`` (that of the preceding bytes)."""
    return fast.xz(data, initial) if initial else fast.xz(data)


def _multiply(left: int, right: int) -> int:
    """Multiply two polynomials over GF(2) modulo the CRC polynomial, reflected bit order."""
    product = 0
    bit = _ONE
    while left:
        if left & bit:
            product ^= right
            left ^= bit
        bit >>= 1
        right = (right >> 1) ^ POLYNOMIAL if right & 1 else right >> 1
    return product


@lru_cache(maxsize=64)
def _shift(length: int) -> int:
    """Return x to the power of 8 * ``length``: what appending that many bytes multiplies by."""
    power = _ONE >> 8  # x^8
    result = _ONE
    while length:
        if length & 1:
            result = _multiply(result, power)
        power = _multiply(power, power)
        length >>= 1
    return result


def combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC-64 of A+B, given those of A and B and the length of B in bytes.

    Initial value and final XOR are equal, so they cancel (the argument of zlib's crc32_combine).
    """
    return _multiply(_shift(second_length), first) ^ second
