"""The device ``sampledevice``: shows how device evidence travels, and proves nothing.

Source: guest-components ``attester/src/sample_device``.
"""

from __future__ import annotations

from typing import Final

from agent.sample import sample_evidence

SVN: Final = "2"


class SampleDevice:
    """Implements :class:`agent.attester.DeviceAttester`."""

    @property
    def name(self) -> str:
        return "sampledevice"

    async def evidence(self, runtime_data: bytes) -> bytes:
        return sample_evidence(SVN, runtime_data)
