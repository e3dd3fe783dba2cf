"""The TEE ``sample``: software that says what it is asked to say, and proves nothing.

For trying a KBS and this agent on a machine without a TEE. Source: guest-components
``attester/src/sample``.
"""

from __future__ import annotations

import base64
from typing import Final

import msgspec

TEE_SAMPLE: Final = "sample"
SVN: Final = "1"


class _SampleEvidence(msgspec.Struct):
    svn: str
    report_data: str


def sample_evidence(svn: str, runtime_data: bytes) -> bytes:
    """Return the evidence. The data is carried as it is: never filled up to 64 bytes."""
    return msgspec.json.encode(_SampleEvidence(svn, base64.b64encode(runtime_data).decode()))


class SampleAttester:
    """Implements :class:`agent.attester.Attester`."""

    @property
    def tee(self) -> str:
        return TEE_SAMPLE

    @property
    def quotes_taken(self) -> int:
        """Always 0: there is no host that makes quotes."""
        return 0

    async def evidence(self, runtime_data: bytes, *, timeout_s: float | None = None) -> bytes:
        del timeout_s  # takes no time
        return sample_evidence(SVN, runtime_data)
