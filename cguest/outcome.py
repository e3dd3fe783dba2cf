"""What a command found, how it is shown, and the exit code that says which kind it was."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

Format = Literal["text", "json"]
Value = None | bool | int | float | str | Sequence["Value"] | Mapping[str, "Value"]


class Exit(enum.IntEnum):
    """Exit codes; the table in docs/cguest.md is checked against this."""

    PASS = 0
    REFUSED = 1
    USAGE = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """``data`` is what ``-o json`` prints; ``text`` what a person reads.

    ``raw`` is bytes for stdout as they are (a resource, a secret), without newline or frame.
    """

    data: Mapping[str, Value] = field(default_factory=dict)
    text: str | None = None
    raw: bytes | None = None
    exit: Exit = Exit.PASS

    def print(self, form: Format) -> None:
        if self.raw is not None:
            sys.stdout.buffer.write(self.raw)
            sys.stdout.buffer.flush()
        elif form == "json":
            print(msgspec.json.format(msgspec.json.encode(self.data), indent=2).decode())
        else:
            print(self.text if self.text is not None else table(self.data))


def table(data: Mapping[str, Value]) -> str:
    """Two aligned columns; nested values stand on lines of their own."""
    width = max((len(key) for key in data), default=0)
    return "\n".join(f"{key.replace('_', ' '):<{width}}  {_cell(v)}" for key, v in data.items())


def _cell(value: Value) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() | str():
            return str(value)
        case Mapping():
            return ", ".join(f"{key}={_cell(item)}" for key, item in value.items())
        case _:
            return ", ".join(_cell(item) for item in value) or "-"


def rows(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table with a title line, columns as wide as their widest cell."""
    every = [list(titles), *[list(line) for line in lines]]
    widths = [max(len(line[i]) for line in every) for i in range(len(titles))]
    return "\n".join(
        "  ".join(cell.ljust(widths[i]) for i, cell in enumerate(line)).rstrip() for line in every
    )
