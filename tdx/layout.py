"""Binary structures declared once as an ordered table of fields; offsets follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """One fixed-size field. Integers are little-endian; ``reserved`` gaps have no name."""

    name: str
    size: int  # bytes


class Layout:
    """An ordered table of fields. Gaps are fields with an empty name."""

    def __init__(self, *fields: tuple[str, int]) -> None:
        self.fields = tuple(Field(name, size) for name, size in fields)
        self.size = sum(field.size for field in self.fields)
        self._named = tuple(self._walk())

    def __add__(self, other: Layout) -> Layout:
        return Layout(*((field.name, field.size) for field in self.fields + other.fields))

    def _walk(self) -> Iterator[tuple[str, int, int]]:
        offset = 0
        for field in self.fields:
            if field.name:
                yield field.name, offset, field.size
            offset += field.size

    def offsets(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, offset and size of each named field."""
        yield from self._named

    def cut(self, data: bytes, start: int = 0) -> dict[str, bytes]:
        """Return each named field's bytes. The caller has checked that ``size`` bytes are there."""
        return {
            name: data[start + offset : start + offset + size] for name, offset, size in self._named
        }
