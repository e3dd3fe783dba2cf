"""JSON of the agent to plain values: bounded by the caller, no duplicate keys, no NaN.

The standard library's parser instead of msgspec: it is the one that costs nothing at start, and
these two documents are all that most containers need.
"""

from __future__ import annotations

import json
from typing import NoReturn, TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


class StrictJsonError(ValueError):
    """Not the JSON that is expected. ``reason`` quotes nothing of the document but key names."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise StrictJsonError("a key is given twice")
    return found


def _constant(_name: str) -> NoReturn:
    raise StrictJsonError("holds NaN or Infinity")


def parse_object(data: bytes) -> dict[str, Json]:
    """Return the one object that ``data`` is. Raises :class:`StrictJsonError`."""
    try:
        value: Json = json.loads(data.decode(), object_pairs_hook=_pairs, parse_constant=_constant)
    except StrictJsonError:
        raise
    except RecursionError:
        raise StrictJsonError("nested too deeply") from None
    except ValueError:
        # Without the cause: the decoder's error holds the document.
        raise StrictJsonError("not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise StrictJsonError("not an object")
    return value


def text_of(table: dict[str, Json], key: str) -> str:
    """Return a string member. Raises :class:`StrictJsonError` if it is absent or none."""
    value = table.get(key)
    if not isinstance(value, str):
        raise StrictJsonError(f"{key}: expected a string")
    return value


def texts_of(table: dict[str, Json], key: str) -> tuple[str, ...]:
    """Return an optional list of strings. Raises :class:`StrictJsonError`."""
    value = table.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise StrictJsonError(f"{key}: expected a list of strings")
    return tuple(item for item in value if isinstance(item, str))


def text_map_of(table: dict[str, Json], key: str) -> dict[str, str]:
    """Return an optional object of strings. Raises :class:`StrictJsonError`."""
    value = table.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise StrictJsonError(f"{key}: expected an object of strings")
    return {name: item for name, item in value.items() if isinstance(item, str)}


def table_of(table: dict[str, Json], key: str) -> dict[str, Json]:
    """Return an optional object. Raises :class:`StrictJsonError`."""
    value = table.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StrictJsonError(f"{key}: expected an object")
    return value
