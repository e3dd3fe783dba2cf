"""The provider of an AMD SEV-SNP guest: levels, certificates and services beside the report.

So that a reader can be tried on a provider that has what TDX lacks. The report has its fields in
place and no good signature. Source: Linux drivers/virt/coco/sev-guest/sev-guest.c,
Documentation/ABI/testing/configfs-tsm-report.
"""

from __future__ import annotations

import errno
import secrets
from typing import Final

from mocktee.errors import SyscallError
from mocktee.tsm.profile import DEFAULT_PROFILE, KernelProfile

REPORT_DATA_BYTES: Final = 64
CERTIFICATES: Final = b"mock certificate table".ljust(4096, b"\0")
MANIFEST: Final = b"mock service manifest"


class SnpProvider:
    """Makes reports of one guest at privilege level 0 to 3."""

    name = "sev_guest"
    levels = True
    floor = 1  # as behind an SVSM, which keeps level 0 to itself

    def __init__(self, profile: KernelProfile = DEFAULT_PROFILE) -> None:
        self.profile = profile
        self.quotes_made = 0

    def stop(self) -> None:
        """Nothing waits here."""

    async def new_quote(self, inblob: bytes, entry: bytes = b"", level: int = 0) -> bytes:  # noqa: ARG002
        """A version 2 report of 1184 bytes: level at 48, report data at 80."""
        if len(inblob) != REPORT_DATA_BYTES:
            raise SyscallError(errno.EINVAL)
        self.quotes_made += 1
        report = bytearray(1184)
        report[0] = 2
        report[48] = level
        report[80:144] = inblob
        report[672:1184] = secrets.token_bytes(512)
        return bytes(report)
