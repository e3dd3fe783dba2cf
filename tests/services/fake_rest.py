"""A REST server in this process with backends that answer without agent and data hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rest.app import open_rest
from rest.backends import Backends
from rest.config import RestConfig
from rest.errors import BackendError
from rest.strict import Compatibility, RuntimeData
from secrecy import Secret
from tests.services.rest_browser import Browser


@dataclass
class FakeBackend:
    """Answers in this process and remembers what it was asked."""

    asked: list[object] = field(default_factory=list)
    result: int = 0
    failure: BackendError | None = None
    reachable: bool = True
    token_text: str = '{"token":"t"}'

    def note(self, *call: object) -> None:
        self.asked.append(call if len(call) > 1 else call[0])
        if self.failure is not None:
            raise self.failure

    async def get_resource(self, uri: str) -> Secret:
        self.note(uri)
        return Secret(b"\x00resource\xff")

    async def token(self, token_type: str) -> Secret:
        self.note(token_type)
        return Secret(self.token_text)

    async def evidence(self, data: RuntimeData) -> bytes:
        self.note("primary", data.bound)
        return b"evidence"

    async def additional_evidence(self, data: RuntimeData) -> bytes:
        self.note("additional", data.bound)
        return b""

    async def is_reachable(self) -> bool:
        return self.reachable

    async def extend(self, domain: str, operation: str, content: str) -> int:
        self.note(domain, operation, content)
        return self.result

    async def tee(self) -> str:
        self.note("tee")
        return "tdx"

    async def additional_tees(self) -> list[str]:
        self.note("additional tees")
        return []


class HeldBackend(FakeBackend):
    """Answers for a resource only when told to."""

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.size = size
        self.waiting, self.release = asyncio.Semaphore(0), asyncio.Event()

    async def get_resource(self, uri: str) -> Secret:
        self.waiting.release()
        await self.release.wait()
        return Secret(b"x" * self.size)


@asynccontextmanager
async def rest(backend: FakeBackend, features: str = "all") -> AsyncIterator[Browser]:
    """Serve as the reference does, with data and tokens passed on as they are."""
    config = RestConfig(
        bind="127.0.0.1:0",
        features=features,
        evidence=Compatibility.REFERENCE,
        token=Compatibility.REFERENCE,
    )
    async with open_rest(config, Backends(backend, backend)) as address:
        yield Browser(address)
