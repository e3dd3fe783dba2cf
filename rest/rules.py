"""What a caller may do: the rules of the measured configuration, applied to an identity. Pure.

Without rules everybody may do everything, as with the reference. With rules nobody may do
anything that no rule grants; rules add up, and none takes away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self, TypeAlias

from rest.identity import ATTRIBUTES, Container
from rest.matching import PathPattern, Pattern
from rest.peer import Caller, Guest
from rest.routes import (
    Call,
    EvidenceCall,
    ExtendCall,
    Reply,
    ResourceCall,
    TokenCall,
)
from rest.sections import RuleConfig

RESOURCE_START: Final = "kbs:///"
MAX_NAMED: Final = 200  # characters of a caller's own words in an answer
# A segment as key brokers take it (trustee, kbs/src/plugins/implementations/resource). Whatever
# else could be read as another path by somebody is granted by no rule.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", re.ASCII)
Who: TypeAlias = Literal["container", "guest", "anyone"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: whom it is about, and what it grants."""

    name: str
    who: Who
    conditions: tuple[tuple[Callable[[Container], str | None], Pattern], ...] = field(default=())
    resources: tuple[PathPattern, ...] = ()
    tokens: frozenset[str] = frozenset()
    evidence: bool = False
    measure: bool = False

    @classmethod
    def of(cls, config: RuleConfig) -> Self:
        """Raises ``ValueError`` for a pattern of resources that is none."""
        match = config.match
        conditions = [
            (_attribute(name), Pattern.parse(text))
            for name in ATTRIBUTES
            if (text := getattr(match, name)) is not None
        ]
        conditions += [
            (_annotation(key), Pattern.parse(text)) for key, text in match.annotations.items()
        ]
        return cls(
            config.name,
            config.who,
            tuple(conditions),
            tuple(PathPattern.parse(text) for text in config.resources),
            frozenset(config.tokens),
            config.evidence,
            config.measure,
        )

    def is_about(self, caller: Caller) -> bool:
        """Return whether all conditions hold. What is absent fits no pattern."""
        match self.who:
            case "anyone":
                return True
            case "guest":
                return isinstance(caller, Guest)
            case "container":
                return isinstance(caller, Container) and all(
                    (value := read(caller)) is not None and pattern.matches(value)
                    for read, pattern in self.conditions
                )

    def grants(self, call: Call) -> bool:
        match call:
            case ResourceCall(uri):
                segments = resource_segments(uri)
                return segments is not None and any(p.matches(segments) for p in self.resources)
            case TokenCall(kind):
                return kind in self.tokens
            case EvidenceCall():
                return self.evidence
            case ExtendCall():
                return self.measure
            case _:
                return False


def _attribute(name: str) -> Callable[[Container], str | None]:
    return lambda container: container.attribute(name)


def _annotation(key: str) -> Callable[[Container], str | None]:
    return lambda container: container.annotation(key)


def resource_segments(uri: str) -> tuple[str, ...] | None:
    """Return repository, type and tag; None for a URI that is not exactly that."""
    if not uri.startswith(RESOURCE_START):
        return None
    segments = tuple(uri.removeprefix(RESOURCE_START).split("/"))
    whole = len(segments) == 3 and all(_SEGMENT.fullmatch(part) for part in segments)
    return segments if whole else None


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a server. None at all is the reference's behaviour."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, configs: Sequence[RuleConfig]) -> Self:
        return cls(tuple(Rule.of(config) for config in configs))

    def refusal(self, caller: Caller, call: Call) -> Reply | None:
        """Return None if ``caller`` may, else the answer 403 that says what was missing.

        ``/info``, the probes and the document are open to everybody.
        """
        if not self.rules or not _is_guarded(call):
            return None
        about = [rule for rule in self.rules if rule.is_about(caller)]
        if any(rule.grants(call) for rule in about):
            return None
        names = ", ".join(rule.name for rule in about)
        absence = f"none of its rules ({names}) grants" if about else "no rule is about it to grant"
        text = f"Forbidden: {caller}: {absence} {_named(call)}"
        return Reply(403, "".join(c if c.isprintable() else " " for c in text).encode())


def _is_guarded(call: Call) -> bool:
    return isinstance(call, ResourceCall | TokenCall | EvidenceCall | ExtendCall)


def _named(call: Call) -> str:
    match call:
        case ResourceCall(uri):
            return f"resource {uri.removeprefix(RESOURCE_START)[:MAX_NAMED]}"
        case TokenCall(kind):
            return f"tokens of type {kind[:MAX_NAMED]!r}"
        case EvidenceCall():
            return "evidence"
        case _:
            return "measuring events"
