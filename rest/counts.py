"""How many requests were answered, by route and class of status, for whoever serves metrics.

Fixed sets only: a caller cannot make a time series by asking for a new name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, TypeAlias

from rest.routes import (
    Call,
    DocumentCall,
    EvidenceCall,
    ExtendCall,
    InfoCall,
    ProbeCall,
    Reply,
    ResourceCall,
    TokenCall,
)

Sample: TypeAlias = tuple[str, str, int]
CLASSES: Final = ("2xx", "4xx", "5xx")


class Route(StrEnum):
    """Names of routes as metrics show them."""

    RESOURCE = "resource"
    TOKEN = "token"  # noqa: S105 - the name of a route
    EVIDENCE = "evidence"
    ADDITIONAL_EVIDENCE = "additional_evidence"
    MEASUREMENT = "aael"
    INFO = "info"
    PROBE = "probe"
    DOCUMENT = "openapi"
    OTHER = "other"


_ROUTES: Final[dict[type[Call | Reply], Route]] = {
    Reply: Route.OTHER,
    ResourceCall: Route.RESOURCE,
    TokenCall: Route.TOKEN,
    ExtendCall: Route.MEASUREMENT,
    InfoCall: Route.INFO,
    ProbeCall: Route.PROBE,
    DocumentCall: Route.DOCUMENT,
}


def route_of(call: Call | Reply) -> Route:
    """Return the route of a call; a request that was refused before it became one is OTHER."""
    if isinstance(call, EvidenceCall):
        return Route.ADDITIONAL_EVIDENCE if call.additional else Route.EVIDENCE
    return _ROUTES[type(call)]


class RestCounts:
    """Counts answers. Outlives the server: counters of a restarted part go on."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[Route, str]] = Counter()

    def add(self, route: Route, status: int) -> None:
        """Count one answer."""
        self._answers[route, f"{status // 100}xx"] += 1

    def samples(self) -> Iterator[Sample]:
        """Yield route, class and count of every pair, those without an answer too."""
        for route in Route:
            for of in CLASSES:
                yield route.value, of, self._answers[route, of]
