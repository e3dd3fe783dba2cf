"""Fault switches: what may go wrong between a client and its KBS, by path and by count.

Owns the kinds of faults, their JSON form and their bookkeeping. How a fault is played on the wire
is the business of :mod:`mocktee.kbs.misbehaviour`.

JSON form: ``{"kind": K, "path": PREFIX, "count": N, ...}`` with the members of the kind.
``count`` null means until cleared (default 1); ``path`` defaults to all of ``/kbs/``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from mocktee.kbs.encoding import Json
from mocktee.kbs.errors import FaultFormatError

MAX_PENDING: Final = 64
DEFAULT_PATH: Final = "/kbs/"
_PARTS: Final = ("body", "iv", "tag", "encrypted_key")


@dataclass(frozen=True, slots=True)
class Slow:
    """``slow``: wait, then answer as if nothing was."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Cut:
    """``cut``: announce the whole body, send half of it and drop the connection."""


@dataclass(frozen=True, slots=True)
class Corrupt:
    """``corrupt``: flip a byte of the JWE ciphertext, or of the body where there is none."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """``refuse``: an error document of the protocol."""

    status: int = 401
    type: str = "AttestationError"
    detail: str = "refused by a fault switch"


@dataclass(frozen=True, slots=True)
class Status:
    """``status``: a bare HTTP status with a plain text body, as proxies answer."""

    status: int = 503


@dataclass(frozen=True, slots=True)
class Throttle:
    """``throttle``: 429 with Retry-After in seconds."""

    retry_after: int = 1


@dataclass(frozen=True, slots=True)
class WrongSize:
    """``wrong_size``: one part has the wrong size. Raises ``FaultFormatError`` on other parts.

    ``part`` is ``body`` (padded with blanks to ``size`` bytes, honestly announced) or a member of
    the JWE: ``iv``, ``tag`` or ``encrypted_key`` (its last byte is missing).
    """

    part: str = "body"
    size: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.part not in _PARTS:
            raise FaultFormatError(f"part is not one of {', '.join(_PARTS)}")


@dataclass(frozen=True, slots=True)
class ExpiredToken:
    """``expired_token``: accept the evidence and issue a token that has expired long ago."""


@dataclass(frozen=True, slots=True)
class NeverEndingBody:
    """``never_ending_body``: send blanks until the client has enough of it."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """``redirect``: 307 to another place."""

    location: str = "https://localhost/elsewhere"


Fault = (
    Slow
    | Cut
    | Corrupt
    | Refuse
    | Status
    | Throttle
    | WrongSize
    | ExpiredToken
    | NeverEndingBody
    | Redirect
)
KINDS: Final[Mapping[str, type[Fault]]] = {
    "slow": Slow,
    "cut": Cut,
    "corrupt": Corrupt,
    "refuse": Refuse,
    "status": Status,
    "throttle": Throttle,
    "wrong_size": WrongSize,
    "expired_token": ExpiredToken,
    "never_ending_body": NeverEndingBody,
    "redirect": Redirect,
}
# Faults that belong to one step of the protocol wait for that step, whatever the prefix.
_ONLY_AT: Final[Mapping[type[Fault], str]] = {ExpiredToken: "/kbs/v0/attest"}
_F = TypeVar("_F", bound=Fault)


@dataclass(slots=True)
class _Pending:
    fault: Fault
    path: str
    count: int | None


class FaultPlan:
    """Faults that wait for their request."""

    def __init__(self) -> None:
        self._pending: list[_Pending] = []

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, fault: Fault, *, path: str = DEFAULT_PATH, count: int | None = 1) -> None:
        """Play ``fault`` on the next ``count`` requests whose path begins with ``path``.

        Raises :class:`FaultFormatError` when too many are pending or ``count`` is not positive.
        """
        if len(self._pending) >= MAX_PENDING:
            raise FaultFormatError(f"{MAX_PENDING} faults are pending")
        if count is not None and count < 1:
            raise FaultFormatError(f"count {count} is not positive")
        self._pending.append(_Pending(fault, path, count))

    def add_json(self, form: Mapping[str, Json]) -> None:
        """Add a fault in its JSON form. Raises :class:`FaultFormatError`."""
        members = dict(form)
        kind = members.pop("kind", None)
        path = members.pop("path", DEFAULT_PATH)
        count = members.pop("count", 1)
        if not isinstance(kind, str) or kind not in KINDS:
            raise FaultFormatError(f"kind is not one of {', '.join(KINDS)}")
        if not isinstance(path, str):
            raise FaultFormatError("path is not a string")
        if isinstance(count, bool) or not isinstance(count, int | None):
            raise FaultFormatError("count is neither a number nor null")
        self.add(_build(KINDS[kind], members), path=path, count=count)

    def clear(self) -> None:
        """Forget all pending faults."""
        self._pending.clear()

    def take(self, path: str) -> list[Fault]:
        """Return the faults to play on a request for ``path``, and count them down."""
        due = [entry for entry in self._pending if self._is_due(entry, path)]
        for entry in due:
            if entry.count is not None:
                entry.count -= 1
        self._pending = [entry for entry in self._pending if entry.count != 0]
        return [entry.fault for entry in due]

    @staticmethod
    def _is_due(entry: _Pending, path: str) -> bool:
        only_at = _ONLY_AT.get(type(entry.fault))
        return path.startswith(entry.path) and only_at in (None, path)


def find_fault(faults: list[Fault], kind: type[_F]) -> _F | None:
    """Return the first fault of one kind, or ``None``."""
    return next((fault for fault in faults if isinstance(fault, kind)), None)


def _build(kind: type[Fault], members: Mapping[str, Json]) -> Fault:
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    for name, value in members.items():
        if name not in fields:
            raise FaultFormatError(f"unknown member {name[:64]!r}")
        default = fields[name]
        fits = isinstance(value, str) if isinstance(default, str) else _is_number(value)
        if not fits or (isinstance(default, int) and not _is_integer(value)):
            raise FaultFormatError(f"member {name} has the wrong type")
    return kind(**members)  # type: ignore[arg-type]  # names and types were checked above


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
