"""What the tests of the KBS client share: an attester, limits, and a sleep without time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kbs import KbsLimits, ResourceUri, RetryPolicy

URI = ResourceUri.parse("kbs:///default/key/1")
# So long that no machine is too slow for it, and so short that silence is noticed.
PATIENT = KbsLimits(request_seconds=40.0, resource_bytes=256 * 1024)
IMPATIENT = KbsLimits(request_seconds=0.5)
ONCE = RetryPolicy(attempts=1, wait_for_network=False)


class Attester:
    """Remembers the digests that it was asked to bind."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.silent = False

    async def tee(self) -> str:
        return "tdx"

    async def device_evidence(self, device_digest: bytes) -> str:
        return ""

    async def evidence(self, runtime_digest: bytes) -> Mapping[str, object]:
        self.digests.append(runtime_digest)
        if self.silent:
            await asyncio.get_running_loop().create_future()
        return {"quote": runtime_digest.hex()}


class Pauses:
    """Takes no time to sleep, and remembers how long it should have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
