"""The bits of TD attributes and XFAM, by name. Names only: what may be set is policy.

Sources: Intel TDX module ABI specification (ATTRIBUTES, XFAM), Linux
arch/x86/include/asm/shared/tdx.h, Intel SDM volume 1 chapter 13 (XSAVE state components).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TD_ATTRIBUTE_BITS: Final = {
    0: "debug",
    4: "hgs_plus_prof",
    5: "perf_prof",
    6: "pmt_prof",
    16: "icssd",
    17: "servtd_ext",
    27: "lass",
    28: "sept_ve_disable",
    29: "migratable",
    30: "pks",
    31: "kl",
    62: "tpa",
    63: "perfmon",
}
UNTRUSTED_BITS: Final = 0xFF  # bits 0 to 7 as a group: any of them set, and the TD is not trusted
# Bits without a public name that modules set and verifiers accept.
ACCEPTED_UNNAMED_BITS: Final = frozenset(range(18, 23))

XFAM_BITS: Final = {
    0: "x87",
    1: "sse",
    2: "avx",
    5: "avx512_opmask",
    6: "avx512_zmm_hi256",
    7: "avx512_hi16_zmm",
    8: "pt",
    9: "pkru",
    11: "cet_u",
    12: "cet_s",
    14: "uintr",
    15: "lbr",
    17: "amx_tilecfg",
    18: "amx_tiledata",
    19: "apx",
}


def set_bits(value: int) -> tuple[int, ...]:
    """Return the numbers of the bits that are set, lowest first."""
    return tuple(bit for bit in range(value.bit_length()) if value >> bit & 1)


@dataclass(frozen=True, slots=True)
class TdAttributes:
    """An unsigned 64-bit value; in quotes and reports 8 bytes, little-endian."""

    value: int

    @classmethod
    def of(cls, stored: bytes) -> TdAttributes:
        return cls(int.from_bytes(stored, "little"))

    @property
    def debug(self) -> bool:
        """The host can read and change this TD: nothing it says means anything."""
        return bool(self.value & 1)

    def has(self, name: str) -> bool:
        """Return whether a named bit is set. Raises ``KeyError`` for a name that does not exist."""
        return self.named()[name]

    def named(self) -> dict[str, bool]:
        """Return every named bit, set or not."""
        return {name: bool(self.value >> bit & 1) for bit, name in TD_ATTRIBUTE_BITS.items()}

    @property
    def unnamed(self) -> tuple[int, ...]:
        """Numbers of the set bits that have no public name."""
        return tuple(bit for bit in set_bits(self.value) if bit not in TD_ATTRIBUTE_BITS)


def xfam_features(stored: bytes) -> tuple[str, ...]:
    """Return the names of the state components a TD may use; unnamed ones as ``bit N``."""
    value = int.from_bytes(stored, "little")
    return tuple(XFAM_BITS.get(bit, f"bit {bit}") for bit in set_bits(value))
