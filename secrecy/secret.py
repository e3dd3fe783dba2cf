"""A value that cannot be printed, compared or pickled by accident.

Python cannot promise that no copy of a secret survives in memory (``THREAT_MODEL.md`` says what
that means); this type promises that none reaches a log, a message or a serialiser unless someone
writes ``reveal``, which is easy to search for in a review.
"""

from __future__ import annotations

import hmac
from typing import NoReturn

REDACTED = "Secret(redacted)"


class SecretEncodingError(ValueError):
    """The secret is not UTF-8 text. Carries neither the bytes nor where they differ."""

    def __init__(self) -> None:
        super().__init__("a secret was expected to be UTF-8 text and is not")


class Secret:
    """Bytes that only :meth:`reveal` gives back.

    ``repr``, ``str`` and ``format`` give a fixed text, ``==`` raises, pickling and copying are
    refused. The content is held in a ``bytearray`` so that :meth:`wipe` can overwrite it.
    """

    __slots__ = ("_content",)

    def __init__(self, value: bytes | bytearray | memoryview | str) -> None:
        self._content = bytearray(value.encode() if isinstance(value, str) else value)

    def reveal(self) -> bytes:
        """Return a copy of the content. The only way out."""
        return bytes(self._content)

    def reveal_text(self) -> str:
        """Return the content as text. Raises :class:`SecretEncodingError` if it is not UTF-8."""
        try:
            return self._content.decode()
        except UnicodeDecodeError:
            # Without "from": the decoder's error object holds the bytes.
            raise SecretEncodingError from None

    def matches(self, other: Secret | bytes) -> bool:
        """Compare in constant time."""
        content = other.reveal() if isinstance(other, Secret) else other
        return hmac.compare_digest(bytes(self._content), content)

    def wipe(self) -> None:
        """Overwrite the content with zeros and forget it."""
        for index in range(len(self._content)):
            self._content[index] = 0
        self._content.clear()

    def __len__(self) -> int:
        return len(self._content)

    def __bool__(self) -> bool:
        return bool(self._content)

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return REDACTED

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("compare secrets with Secret.matches (constant time)")

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not serialised")

    def __copy__(self) -> NoReturn:
        raise TypeError("a Secret is not copied; pass the object")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a Secret is not copied; pass the object")
