"""Settings and annotations of a sealed secret: JSON objects to typed values."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kms.errors import KmsRequestError
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
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problem = str(error) if isinstance(error, msgspec.ValidationError) else "not JSON"
        raise KmsRequestError(provider, f"{what}: {problem[:200]}") from None
