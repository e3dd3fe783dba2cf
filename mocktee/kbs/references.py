"""Reference values: which measurements are good, as an operator registered them.

Trustee only lowers the trust vector of a token when evidence misses a reference value. This mock
refuses the handshake instead, so that a tampered guest is told at once and why. A name it could
not compare is refused at registration, because a value that is never looked at protects nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mocktee.kbs.encoding import Json, b64_decode, parse_object
from mocktee.kbs.errors import ReferenceValueError
from mocktee.kbs.quote import BODY_FIELDS

TCB_STATUS: Final = "tcb_status"
COMPARABLE: Final = frozenset((*BODY_FIELDS, TCB_STATUS)) - {"report_data"}
MAX_VALUES: Final = 64  # per name


class ReferenceValues:
    """Registered values by name; a name without values is not judged."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, ...]] = {}

    def register(self, values: Mapping[str, Sequence[str]]) -> None:
        """Replace the good values of some names, or of none: raises :class:`ReferenceValueError`.

        Values are hex, but for ``tcb_status``. An empty sequence ends the comparison of its name.
        """
        normal = {name: _normal(name, texts) for name, texts in values.items()}
        self._values.update(normal)

    def get(self, name: str) -> tuple[str, ...]:
        """Return the good values of one name; empty when nothing is registered."""
        return self._values.get(name, ())

    def registered(self) -> Mapping[str, tuple[str, ...]]:
        """Return all names that are judged."""
        return {name: values for name, values in self._values.items() if values}


def parse_registration(body: bytes) -> dict[str, list[str]]:
    """Parse the body of POST /reference-value. Raises :class:`ReferenceValueError`.

    The payload is **standard** base64 of a map from names to one value or a list of them.
    """
    try:
        message = parse_object(body)
        payload = message.get("payload")
        if message.get("type") != "sample" or not isinstance(payload, str):
            raise ValueError("type is not sample, or payload is missing")
        values = parse_object(b64_decode(payload))
    except ValueError as error:
        raise ReferenceValueError(f"Failed to register reference value: {error}") from error
    return {name: _texts(name, value) for name, value in values.items()}


def _normal(name: str, texts: Sequence[str]) -> tuple[str, ...]:
    if name not in COMPARABLE:
        known = ", ".join(sorted(COMPARABLE))
        raise ReferenceValueError(f"{name[:64]!r} is not compared; names are {known}")
    if len(texts) > MAX_VALUES:
        raise ReferenceValueError(f"{name} has more than {MAX_VALUES} values")
    return tuple(texts if name == TCB_STATUS else [text.lower() for text in texts])


def _texts(name: str, value: Json) -> list[str]:
    items = value if isinstance(value, list) else [value]
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) != len(items):
        raise ReferenceValueError(f"Failed to register reference value: {name[:64]} is not text")
    return texts
