"""Canonical JSON after RFC 8785 (JCS), for the values that are hashed in the handshake.

Strings, booleans, null, safe integers, lists and objects; no floating point, because nothing that
is hashed here has any and its RFC 8785 form is a large part of that document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

# The recursive alias needs a string: it is evaluated at import, when the name is not bound yet.
Canonical: TypeAlias = "str | int | bool | Sequence[Canonical] | Mapping[str, Canonical] | None"

MAX_SAFE_INTEGER: Final = 2**53 - 1  # RFC 8785 3.2.2.3, I-JSON


def canonical_json(value: Canonical) -> bytes:
    """Return the one byte string that RFC 8785 allows for ``value``.

    Raises ``ValueError`` for what has no such form: integers beyond 2^53, lone surrogates, floats.
    """
    return _render(value).encode("utf-8")


def _render(value: Canonical) -> str:
    if value is None or isinstance(value, bool | str):
        # The escapes of Python's encoder are those of RFC 8785 3.2.2.2.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise ValueError("the integer has no canonical JSON form")
        return str(value)
    if isinstance(value, Mapping):
        # RFC 8785 3.2.3: members are sorted by the UTF-16 code units of their names.
        members = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return "{" + ",".join(f"{_render(name)}:{_render(item)}" for name, item in members) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(_render(item) for item in value) + "]"
    raise ValueError(f"{type(value).__name__} has no canonical JSON form here")
