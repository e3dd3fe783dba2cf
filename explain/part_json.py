"""JSON of a part: anything that does not decode is our error, however deep or odd it is."""

from __future__ import annotations

import msgspec

from explain.errors import BundleError


def decode_json(data: bytes | str, part: str) -> object:
    """Return the value. Raises :class:`~explain.errors.BundleError`, which never quotes it."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BundleError(part, "not JSON") from error


def json_object(data: bytes | str, part: str) -> dict[str, object]:
    """As :func:`decode_json`, for an object."""
    value = decode_json(data, part)
    if not isinstance(value, dict):
        raise BundleError(part, "expected a JSON object")
    return value
