"""Takes fields off a byte string whose lengths are somebody else's claim."""

from __future__ import annotations

from collections.abc import Container

from tdx.errors import QuoteFormatError
from tdx.layout import Layout


class Cursor:
    """A window on ``data`` from ``start`` to ``end``; refuses to run over its end.

    All methods raise :class:`QuoteFormatError` that names the field and its offset in ``data``.
    """

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data = data
        self.at = start
        self.end = end

    @property
    def left(self) -> int:
        return self.end - self.at

    def take(self, name: str, size: int) -> bytes:
        if size > self.end - self.at:
            raise QuoteFormatError(name, self.at, expected=f"{size} bytes", got=f"{self.left}")
        start, self.at = self.at, self.at + size
        return self.data[start : self.at]

    def fields(self, name: str, layout: Layout) -> dict[str, bytes]:
        """Take one structure and cut it into its named fields."""
        return layout.cut(self.take(name, layout.size))

    def number(self, name: str, size: int, expected: int | None = None) -> int:
        """Take a little-endian integer, which must be ``expected`` if that is given."""
        start = self.at
        value = int.from_bytes(self.take(name, size), "little")
        if expected is not None and value != expected:
            raise QuoteFormatError(name, start, expected=str(expected), got=str(value))
        return value

    def kind(self, name: str, size: int, known: Container[int], expected: str) -> int:
        """Take a little-endian type number that must be one of ``known``."""
        start = self.at
        value = self.number(name, size)
        if value not in known:
            raise QuoteFormatError(name, start, expected=expected, got=str(value))
        return value
