"""The fields of a TDX quote by their offsets (Intel DCAP ``sgx_quote_4.h``, ``sgx_quote_5.h``).

A reader only: whether a quote is genuine is the business of :mod:`mocktee.kbs.authenticate`, and
whether its fields are acceptable that of :mod:`mocktee.kbs.decide`. It shares no code with the
product's reader, so that each checks the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mocktee.kbs.errors import EvidenceRefusedError

MAX_QUOTE: Final = 64 * 1024  # bytes; real ones have 5 to 8 KiB
MIN_SIGNATURE: Final = 388  # bytes of the smallest signature section that can be whole
TEE_TDX: Final = 0x81
DEBUG_BIT: Final = 0

_Fields = tuple[tuple[str, int, int], ...]  # name, offset, size

_HEADER: Final[_Fields] = (
    ("version", 0, 2),
    ("att_key_type", 2, 2),
    ("tee_type", 4, 4),
    ("reserved", 8, 4),
    ("vendor_id", 12, 16),
    ("user_data", 28, 20),
)
_HEADER_SIZE: Final = 48
_BODY: Final[_Fields] = (
    ("tcb_svn", 0, 16),
    ("mr_seam", 16, 48),
    ("mrsigner_seam", 64, 48),
    ("seam_attributes", 112, 8),
    ("td_attributes", 120, 8),
    ("xfam", 128, 8),
    ("mr_td", 136, 48),
    ("mr_config_id", 184, 48),
    ("mr_owner", 232, 48),
    ("mr_owner_config", 280, 48),
    ("rtmr_0", 328, 48),
    ("rtmr_1", 376, 48),
    ("rtmr_2", 424, 48),
    ("rtmr_3", 472, 48),
    ("report_data", 520, 64),
)
_BODY_15: Final[_Fields] = (*_BODY, ("tee_tcb_svn2", 584, 16), ("mr_servicetd", 600, 48))
_TD_10: Final = 2
_TD_15: Final = 3
_BODY_SIZES: Final = {_TD_10: 584, _TD_15: 648}

BODY_FIELDS: Final = tuple(name for name, _, _ in _BODY_15)


@dataclass(frozen=True, slots=True)
class Quote:
    """One quote: its bytes, and its fields as they stand in them."""

    raw: bytes
    version: int
    header: Mapping[str, bytes]
    body: Mapping[str, bytes]

    @property
    def debug(self) -> bool:
        """True when the host can read and change the TD, so that no field means anything."""
        return bool(self.body["td_attributes"][0] >> DEBUG_BIT & 1)

    def rtmr(self, index: int) -> bytes:
        """Return runtime measurement register 0 to 3."""
        return self.body[f"rtmr_{index}"]

    def attribute(self, bit: int) -> bool:
        """Return one bit of the TD attributes."""
        return bool(int.from_bytes(self.body["td_attributes"], "little") >> bit & 1)


def read_quote(raw: bytes) -> Quote:
    """Read a version 4 or 5 TDX quote. Raises :class:`EvidenceRefusedError`."""
    if len(raw) < _HEADER_SIZE or len(raw) > MAX_QUOTE:
        raise EvidenceRefusedError(f"quote format: {len(raw)} bytes cannot be a TDX quote")
    header = {name: raw[at : at + size] for name, at, size in _HEADER}
    version = int.from_bytes(header["version"], "little")
    if int.from_bytes(header["tee_type"], "little") != TEE_TDX:
        raise EvidenceRefusedError(f"quote format: TEE type {header['tee_type'].hex()} is not TDX")
    if version == 4:
        start, fields, size = _HEADER_SIZE, _BODY, _BODY_SIZES[_TD_10]
    elif version == 5:
        start, fields, size = _body_descriptor(raw)
    else:
        raise EvidenceRefusedError(f"quote format: version {version}, expected 4 or 5")
    if len(raw) < start + size + MIN_SIGNATURE:
        raise EvidenceRefusedError(f"quote format: {len(raw)} bytes end before the signature")
    body = {name: raw[start + at : start + at + length] for name, at, length in fields}
    return Quote(raw=raw, version=version, header=header, body=body)


def _body_descriptor(raw: bytes) -> tuple[int, _Fields, int]:
    kind = int.from_bytes(raw[48:50], "little")
    size = int.from_bytes(raw[50:54], "little")
    if _BODY_SIZES.get(kind) != size:
        raise EvidenceRefusedError(f"quote format: body type {kind} of {size} bytes is unknown")
    return 54, (_BODY if kind == _TD_10 else _BODY_15), size
