"""The 64 bytes a quote is bound to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

REPORT_DATA_BYTES: Final = 64  # TDREPORT reportdata; also the limit of configfs-tsm inblob


@dataclass(frozen=True, slots=True)
class ReportData:
    """Exactly 64 bytes. Hashable, so that equal requests can share a quote."""

    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.value) != REPORT_DATA_BYTES:
            raise ValueError(f"report data has {len(self.value)} bytes, not {REPORT_DATA_BYTES}")

    @classmethod
    def padded(cls, value: bytes) -> ReportData:
        """Fill up with zero bytes on the right. Raises ``ValueError`` above 64 bytes.

        Never cut: two different challenges must not become the same report data.
        """
        if len(value) > REPORT_DATA_BYTES:
            raise ValueError(f"report data has {len(value)} bytes, at most {REPORT_DATA_BYTES} fit")
        return cls(value.ljust(REPORT_DATA_BYTES, b"\0"))
