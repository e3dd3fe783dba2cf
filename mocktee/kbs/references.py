"""Reference values: which measurements are good, as an operator registered them.

Trustee only lowers the trust vector of a token when evidence misses a reference value. This mock
refuses the handshake of a TD instead, so that a tampered guest is told at once and why. A name it
could not compare is refused at registration: a value that is never looked at protects nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mocktee.kbs.encoding import Json, b64_decode, parse_object
from mocktee.kbs.errors import RegistrationError
from mocktee.kbs.quote import BODY_FIELDS

TCB_STATUS: Final = "tcb_status"
JUDGED: Final = frozenset((*BODY_FIELDS, TCB_STATUS)) - {"report_data"}
# Names that the attestation policy asks for about TEE sample: they only move the trust vector.
APPRAISED: Final = frozenset(
    {"svn", "launch_digest", "major_version", "minimum_minor_version", "device_svn"}
)
COMPARABLE: Final = JUDGED | APPRAISED
MAX_VALUES: Final = 64  # per name

Good = str | int  # numbers only where the name is a number


class ReferenceValues:
    """Registered values by name; a name without values is not judged."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[Good, ...]] = {}
        self._single: set[str] = set()

    def register(self, values: Mapping[str, Sequence[Good]]) -> None:
        """Replace the good values of some names, or of none: raises :class:`RegistrationError`.

        Values are hex, but for ``tcb_status``. An empty sequence ends the comparison of its name.
        """
        normal = {name: _normal(name, texts) for name, texts in values.items()}
        self._values.update(normal)

    def get(self, name: str) -> tuple[Good, ...]:
        """Return the good values of one name; empty when nothing is registered."""
        return self._values.get(name, ())

    def register_document(self, document: Mapping[str, Json]) -> None:
        """Register a map from names to one value or a list, and keep in mind which it was."""
        self.register({name: _good(name, value) for name, value in document.items()})
        for name, value in document.items():
            (self._single.discard if isinstance(value, list) else self._single.add)(name)

    def as_registered(self, name: str) -> Json:
        """Return the one value or the list that was registered; ``None`` when nothing was."""
        values = self._values.get(name, ())
        if not values:
            return None
        return values[0] if name in self._single else list(values)

    def registered(self) -> Mapping[str, tuple[str, ...]]:
        """Return all names that a quote is judged by."""
        return {
            name: tuple(str(value) for value in values)
            for name, values in self._values.items()
            if values and name in JUDGED
        }


def parse_registration(body: bytes) -> dict[str, Json]:
    """Parse the body of POST /reference-value. Raises :class:`RegistrationError`.

    The payload is **standard** base64 of a map from names to one value or a list of them.
    """
    try:
        message = parse_object(body)
        payload = message.get("payload")
        if message.get("type") != "sample" or not isinstance(payload, str):
            raise ValueError("type is not sample, or payload is missing")
        values = parse_object(b64_decode(payload))
    except ValueError as error:
        raise RegistrationError(str(error)) from error
    return values


def _normal(name: str, values: Sequence[Good]) -> tuple[Good, ...]:
    if name not in COMPARABLE:
        known = ", ".join(sorted(COMPARABLE))
        raise RegistrationError(f"{name[:64]!r} is not compared; names are {known}")
    if len(values) > MAX_VALUES:
        raise RegistrationError(f"{name} has more than {MAX_VALUES} values")
    if name in APPRAISED or name == TCB_STATUS:
        return tuple(values)
    return tuple(str(value).lower() for value in values)


def _good(name: str, value: Json) -> list[Good]:
    items = value if isinstance(value, list) else [value]
    allowed: tuple[type, ...] = (str, int) if name in APPRAISED else (str,)
    good = [item for item in items if isinstance(item, allowed) and isinstance(item, str | int)]
    if len(good) != len(items):
        raise RegistrationError(f"{name[:64]} is not text")
    return good
