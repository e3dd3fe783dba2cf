"""Nested values as indented lines for a person; lists of plain values stay on one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cguest.outcome import Value

INDENT = "  "


def outline(data: Mapping[str, Value], depth: int = 0) -> str:
    """One member a line, values aligned within a group, groups indented below their name."""
    plain = [key for key, value in data.items() if not _is_group(value)]
    width = max((len(key) for key in plain), default=0)
    lines = []
    for key, value in data.items():
        head = INDENT * depth + key
        if isinstance(value, Mapping):
            lines += [head, outline(value, depth + 1)]
        elif isinstance(value, Sequence) and not isinstance(value, str) and _is_group(value):
            for number, item in enumerate(value, 1):
                inner = item if isinstance(item, Mapping) else {"value": item}
                lines += [f"{head} {number}", outline(inner, depth + 1)]
        else:
            lines.append(f"{INDENT * depth}{key:<{width}}  {_plain(value)}")
    return "\n".join(line for line in lines if line)


def _is_group(value: Value) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    return any(isinstance(item, Mapping) for item in value)


def _plain(value: Value) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() | str():
            return str(value)
        case Mapping():
            return "-"
        case _:
            return " ".join(_plain(item) for item in value) or "-"
