"""KMAC256 written out from FIPS 202 and NIST SP 800-185: an oracle without a library."""

from __future__ import annotations

from collections.abc import Iterator

MASK = (1 << 64) - 1
RATE = 136  # bytes; the capacity of the 256-bit functions is 512 bits


def _rotated(lane: int, by: int) -> int:
    by %= 64
    return ((lane << by) | (lane >> (64 - by))) & MASK


def _round_constants() -> Iterator[int]:
    """FIPS 202, algorithm 5: bits of a linear feedback shift register."""
    register = 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            constant |= (register & 1) << (2**j - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        yield constant


def _permuted(lanes: list[list[int]]) -> list[list[int]]:
    """Keccak-f[1600] on ``lanes[x][y]``."""
    for constant in _round_constants():
        parity = [a ^ b ^ c ^ d ^ e for a, b, c, d, e in lanes]
        lanes = [
            [lane ^ parity[x - 1] ^ _rotated(parity[(x + 1) % 5], 1) for lane in lanes[x]]
            for x in range(5)
        ]
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], _rotated(current, (step + 1) * (step + 2) // 2)
        lanes = [
            [lanes[x][y] ^ (~lanes[(x + 1) % 5][y] & lanes[(x + 2) % 5][y]) for y in range(5)]
            for x in range(5)
        ]
        lanes[0][0] ^= constant
    return lanes


def _sponge(data: bytes, suffix: int, length: int) -> bytes:
    """Absorb and squeeze; at most one block comes out."""
    assert length <= RATE
    padded = bytearray(data + bytes([suffix]))
    padded += bytes(-len(padded) % RATE)
    padded[-1] ^= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), RATE):
        for i in range(RATE // 8):
            piece = padded[start + 8 * i : start + 8 * i + 8]
            lanes[i % 5][i // 5] ^= int.from_bytes(piece, "little")
        lanes = _permuted(lanes)
    return b"".join(lanes[i % 5][i // 5].to_bytes(8, "little") for i in range(25))[:length]


def sha3_256(data: bytes) -> bytes:
    """For comparison with the standard library: shows that the permutation is right."""
    return _sponge(data, 0x06, 32)


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _left_encoded(value: int) -> bytes:
    return bytes([len(_number(value))]) + _number(value)


def _string(text: bytes) -> bytes:
    return _left_encoded(8 * len(text)) + text


def _block(data: bytes) -> bytes:
    framed = _left_encoded(RATE) + data
    return framed + bytes(-len(framed) % RATE)


def kmac256(key: bytes, data: bytes, length: int, custom: bytes = b"") -> bytes:
    bits = _number(8 * length)
    message = _block(_string(key)) + data + bits + bytes([len(bits)])
    return _sponge(_block(_string(b"KMAC") + _string(custom)) + message, 0x04, length)
