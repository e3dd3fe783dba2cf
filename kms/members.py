"""Settings and annotations of a sealed secret: JSON objects to typed values."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kms.errors import KmsRequestError, shown
from kms.ports import JsonMembers

T = TypeVar("T")
MAX_JSON = 16 * 1024  # bytes of all members together


def read_members(provider: str, what: str, members: JsonMembers, kind: type[T]) -> T:
    """Return ``members`` as a ``kind``, a closed or open ``msgspec.Struct``.

    ``what`` names the object for the message. Raises :class:`KmsRequestError`; values are not
    quoted, as whoever made the secret may have put anything there.
    """
    if sum(len(key) + len(value) for key, value in members.items()) > MAX_JSON:
        raise KmsRequestError(provider, f"{what} are longer than {MAX_JSON} bytes")
    text = b"{" + b",".join(msgspec.json.encode(k) + b":" + v for k, v in members.items()) + b"}"
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise KmsRequestError(provider, f"{what}: {_without_value(str(error))}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise KmsRequestError(provider, f"{what}: not JSON") from None


def _without_value(problem: str) -> str:
    """The decoder says what it expected where, and quotes only a tag that it does not know."""
    if problem.startswith("Invalid value "):
        problem = "Invalid value" + "".join(problem.rpartition(" - at ")[1:])
    return shown(problem)
