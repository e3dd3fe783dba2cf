"""Patterns of rules: a text, in which ``*`` stands for any run of characters.

Matched without backtracking: part of what is matched comes from the host or from a workload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Pattern:
    """``parts`` are the texts between the asterisks; one part is an exact text."""

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """There is no way to write an asterisk that means itself: no name of ours has one."""
        return cls(tuple(text.split("*")))

    def matches(self, text: str) -> bool:
        """Return whether all of ``text`` fits. Linear in each part."""
        first, last = self.parts[0], self.parts[-1]
        if len(self.parts) == 1:
            return text == first
        if len(text) < len(first) + len(last):
            return False
        if not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for part in self.parts[1:-1]:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


@dataclass(frozen=True, slots=True)
class PathPattern:
    """``repository/type/tag`` of resources; an asterisk stays within its segment."""

    segments: tuple[Pattern, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``ValueError`` unless there are three segments, none of them empty."""
        segments = text.split("/")
        if len(segments) != 3 or not all(segments):
            raise ValueError(text)
        return cls(tuple(Pattern.parse(segment) for segment in segments))

    def matches(self, segments: tuple[str, ...]) -> bool:
        return len(segments) == len(self.segments) and all(
            pattern.matches(segment)
            for pattern, segment in zip(self.segments, segments, strict=True)
        )
