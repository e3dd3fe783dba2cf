"""Calls to the backends and replies from them, without HTTP and without a decision who may.

Knows no session and keeps nothing but, for a second, whether the backends could be reached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Final, assert_never

from rest.backends import Backends
from rest.bounded_log import BoundedLog
from rest.errors import BackendError
from rest.routes import (
    JSON,
    OCTETS,
    Call,
    DocumentCall,
    EvidenceCall,
    ExtendCall,
    Feature,
    InfoCall,
    Probe,
    ProbeCall,
    Reply,
    ResourceCall,
    TokenCall,
    extend_reply,
    info_reply,
    parse_event,
)
from rest.strict import Compatibility, runtime_data, token_without_key

PROBE_SECONDS: Final = 2.0  # for the backends to show that they are there
PROBE_KEPT_SECONDS: Final = 1.0
# What they say is no more than the status: who asks may be anybody.
ALIVE: Final = Reply(200, b'{"status":"alive"}', JSON)
READY: Final = Reply(200, b'{"status":"ready"}', JSON)
NOT_READY: Final = Reply(503, b'{"status":"not ready"}', JSON)


@cache
def openapi_document() -> bytes:
    """Return the OpenAPI document of this server, as it lies beside the code."""
    return files("rest").joinpath("openapi.json").read_bytes()


@dataclass(frozen=True, slots=True)
class RestService:
    """Answers calls with two backends."""

    feature: Feature
    backends: Backends
    evidence: Compatibility = Compatibility.STRICT
    token: Compatibility = Compatibility.STRICT
    failures: BoundedLog = field(default_factory=BoundedLog)
    reachability: Reachability = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reachability", Reachability(self.feature, self.backends))

    async def answer(self, call: Call, body: bytes) -> Reply:
        """Return the reply to ``call``. A backend that fails gives 500 with text and cause."""
        try:
            return await self._perform(call, body)
        except BackendError as error:
            self.failures.warning("request failed", call=type(call).__name__, cause=error.noted)
            return Reply(500, str(error).encode())

    async def _perform(self, call: Call, body: bytes) -> Reply:
        match call:
            case ResourceCall(uri):
                resource = await self.backends.resources.get_resource(uri)
                return Reply(200, resource.reveal(), OCTETS)
            case TokenCall(kind):
                token = await self.backends.attestation.token(kind)
                if self.token is Compatibility.STRICT:
                    token = token_without_key(kind, token)
                return Reply(200, token.reveal(), OCTETS)
            case EvidenceCall(callers, additional):
                data = runtime_data(callers, self.evidence)
                attestation = self.backends.attestation
                ask = attestation.additional_evidence if additional else attestation.evidence
                return Reply(200, await ask(data), OCTETS)
            case ExtendCall():
                return await self._extend(body)
            case InfoCall():
                return await self._info()
            case ProbeCall(probe):
                return await self._probe(probe)
            case DocumentCall():
                return Reply(200, openapi_document(), JSON)
            case unknown:
                assert_never(unknown)

    async def _extend(self, body: bytes) -> Reply:
        event = parse_event(body)
        if isinstance(event, Reply):
            return event
        result = await self.backends.attestation.extend(
            event.domain, event.operation, event.content
        )
        return extend_reply(result)

    async def _info(self) -> Reply:
        tee, additional = None, list[str]()
        if self.feature.has_attestation:
            tee = await self.backends.attestation.tee()
            additional = await self.backends.attestation.additional_tees()
        return info_reply(_own_version(), tee, additional, self.feature.value)

    async def _probe(self, probe: Probe) -> Reply:
        if probe is Probe.LIVE:
            return ALIVE
        return READY if await self.reachability.of_all() else NOT_READY


class Reachability:
    """Whether the backends that the features need answer. All who ask at once share one look."""

    def __init__(
        self, feature: Feature, backends: Backends, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._feature = feature
        self._backends = backends
        self._looking = asyncio.Lock()
        self._last: tuple[float, bool] | None = None

    async def of_all(self) -> bool:
        """Return it, at most a second old. A look takes two seconds at most."""
        async with self._looking:
            if self._last is None or self._clock() - self._last[0] > PROBE_KEPT_SECONDS:
                answer = await self._look()
                # The time after the look: one that took long must not be too old for the next.
                self._last = self._clock(), answer
            return self._last[1]

    async def _look(self) -> bool:
        needed = []
        if self._feature.has_resource:
            needed.append(self._backends.resources.is_reachable())
        if self._feature.has_attestation:
            needed.append(self._backends.attestation.is_reachable())
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return all(await asyncio.gather(*needed))
        except TimeoutError:
            return False


def _own_version() -> str:
    try:
        return version("confidential-guest")
    except PackageNotFoundError:
        return "source tree"
