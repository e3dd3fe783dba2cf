"""What the mock KBS has seen: counts for those who ask what something costs, and why it refused."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from mocktee.kbs.encoding import Json

MAX_REFUSALS: Final = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused request, with the reason even when the answer hid it."""

    path: str
    type: str
    detail: str
    reason: str


@dataclass(slots=True)
class Counters:
    """Counts since the start. A repeated attest is one that got its session's old token."""

    auth: int = 0
    auth_refused: int = 0
    attest_accepted: int = 0
    attest_repeated: int = 0
    attest_refused: int = 0
    quotes_seen: int = 0
    resource_requests: int = 0
    resources_served: int = 0
    faults_played: int = 0
    refusals: deque[Refusal] = field(default_factory=lambda: deque(maxlen=MAX_REFUSALS))

    def to_json(self) -> dict[str, Json]:
        """Return the form that GET /mock/state answers."""
        return {
            "handshakes": {
                "auth": self.auth,
                "auth_refused": self.auth_refused,
                "attest_accepted": self.attest_accepted,
                "attest_repeated": self.attest_repeated,
                "attest_refused": self.attest_refused,
            },
            "quotes_seen": self.quotes_seen,
            "resources": {"requests": self.resource_requests, "served": self.resources_served},
            "faults_played": self.faults_played,
            "refusals": [
                {"path": r.path, "type": r.type, "detail": r.detail, "reason": r.reason}
                for r in self.refusals
            ],
        }
