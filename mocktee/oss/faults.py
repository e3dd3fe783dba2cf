"""Faults on demand: which request they strike, how often, and what they do.

Pure bookkeeping; :mod:`mocktee.oss.service` and :mod:`mocktee.oss.sending` carry the effects out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Self

from mocktee.oss.errors import STATUS_OF, MockOssSettingsError

THROTTLING_STATUS: Final = 503


class FaultKind(StrEnum):
    STATUS = "status"  # answer with an error document, the operation is not done
    LOST_ANSWER = "lost-answer"  # do the operation, then drop the connection
    SLOW = "slow"  # wait before doing anything
    BANDWIDTH = "bandwidth"  # pace the body, in either direction
    CUT = "cut"  # drop the connection inside the answer's body
    WRONG_LENGTH = "wrong-length"  # announce and send a body that is too short or too long
    WRONG_CRC = "wrong-crc"  # a checksum header that does not fit
    CORRUPT = "corrupt"  # one changed byte in the answer's body


@dataclass(slots=True)
class Fault:
    """One rule. Empty filters match everything; ``count`` None strikes for ever.

    ``skip`` requests that match are let through first. ``methods`` are HTTP methods, ``operations``
    OSS operation names. ``at`` is a body offset (CUT, CORRUPT), ``delta`` the change of length.
    """

    kind: FaultKind
    count: int | None = 1
    skip: int = 0
    methods: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    key_prefix: str = ""
    code: str = "ServiceUnavailable"
    status: int | None = None
    seconds: float = 1.0
    bytes_per_second: int = 1 << 20
    at: int = 0
    delta: int = -1
    struck: int = field(default=0)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises :class:`MockOssSettingsError` for unknown members, kinds and wrong types."""
        if not isinstance(value, dict) or "kind" not in value:
            raise MockOssSettingsError("fault", "not an object with a kind")
        known: Mapping[str, Any] = {f.name: f for f in fields(cls) if f.name != "struck"}
        unknown = sorted(str(name)[:40] for name in value if name not in known)
        if unknown:
            raise MockOssSettingsError(
                "fault", f"unknown members {', '.join(unknown)}", hint=f"known: {', '.join(known)}"
            )
        if value["kind"] not in list(FaultKind):
            raise MockOssSettingsError(
                "fault", "unknown kind", hint=f"one of {', '.join(FaultKind)}"
            )
        members = dict(value)
        members["kind"] = FaultKind(members["kind"])
        for name in ("methods", "operations"):
            members[name] = _strings(name, members.get(name, []))
        _check_numbers(members)
        return cls(**members)

    def matches(self, operation: str, method: str, key: str) -> bool:
        return (
            (not self.methods or method in self.methods)
            and (not self.operations or operation in self.operations)
            and key.startswith(self.key_prefix)
        )

    @property
    def answer_status(self) -> int:
        if self.status is not None:
            return self.status
        return STATUS_OF.get(self.code, THROTTLING_STATUS)


class FaultSwitch:
    """The rules in force, struck in the order in which they were added."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, kind: FaultKind | str, **members: Any) -> Fault:
        """As :meth:`Fault.from_json`, with members as keywords; ``fault.struck`` counts hits."""
        fault = Fault.from_json({"kind": str(kind), **members})
        self.put(fault)
        return fault

    def put(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def active(self) -> int:
        return len(self._faults)

    def take(self, operation: str, method: str, key: str) -> list[Fault]:
        """The faults that strike this request; used-up ones are removed."""
        struck: list[Fault] = []
        for fault in list(self._faults):
            if not fault.matches(operation, method, key):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.struck += 1
            struck.append(fault)
            if fault.count is not None and fault.struck >= fault.count:
                self._faults.remove(fault)
        return struck


def first(faults: list[Fault], kind: FaultKind) -> Fault | None:
    return next((fault for fault in faults if fault.kind is kind), None)


def _strings(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise MockOssSettingsError("fault", f"{name} is not a list of strings")


def _check_numbers(members: Mapping[str, object]) -> None:
    for name in ("count", "skip", "status", "bytes_per_second", "at", "delta"):
        value = members.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise MockOssSettingsError("fault", f"{name} is not a whole number")
    if not isinstance(members.get("seconds", 0.0), int | float):
        raise MockOssSettingsError("fault", "seconds is not a number")
    for name in ("key_prefix", "code"):
        if not isinstance(members.get(name, ""), str):
            raise MockOssSettingsError("fault", f"{name} is not a string")
    for name in ("count", "bytes_per_second"):
        value = members.get(name)
        if isinstance(value, int) and value < 1:
            raise MockOssSettingsError("fault", f"{name} is below 1")
