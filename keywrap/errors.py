"""What can be wrong with a request to unwrap a key. No message holds a key or what was sent.

::

    KeywrapError
    |- RequestFormatError    not the JSON of the protocol, or not by its rules
    |- PacketFormatError     the annotation is not a packet
    |- PacketRefusedError    a packet that asks for something that is not done here
    |- KekError              the resource that kid names is no key
    `- WrappedKeyError       the wrapped key does not open with that key
"""

from __future__ import annotations

from typing import Final

MAX_ECHO: Final = 64  # characters of a packet's text in a message


def shown(text: str) -> str:
    """Return a bounded, printable form of a packet's own text."""
    return repr(text[:MAX_ECHO])


class KeywrapError(Exception):
    """Base of all errors of this package. ``hint`` says what can be done about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class RequestFormatError(KeywrapError):
    """Part ``part`` of an unwrap request is not what the protocol says."""

    def __init__(self, part: str, problem: str, *, hint: str = "") -> None:
        self.part = part
        super().__init__(f"unwrap request, {part}: {problem}", hint=hint)


class PacketFormatError(KeywrapError):
    """Member ``member`` of a packet is missing or malformed."""

    def __init__(self, member: str, problem: str) -> None:
        self.member = member
        super().__init__(f"annotation packet, {member}: {problem}")


class PacketRefusedError(KeywrapError):
    """Member ``member`` has a value that is understood and not served."""

    def __init__(self, member: str, got: str, *, expected: str) -> None:
        self.member = member
        super().__init__(
            f"annotation packet, {member}: {shown(got)} is not served here, expected {expected}"
        )


class KekError(KeywrapError):
    """The content of ``kid`` cannot be a key encryption key."""

    def __init__(self, kid: str, size: int, expected: int) -> None:
        self.kid = kid[:MAX_ECHO]
        self.size = size
        super().__init__(
            f"key encryption key {shown(kid)}: expected {expected} bytes, got {size}",
            hint="the resource has to hold the raw key, not its base64 text",
        )


class WrappedKeyError(KeywrapError):
    """Opening the wrapped key with the content of ``kid`` failed."""

    def __init__(self, kid: str) -> None:
        self.kid = kid[:MAX_ECHO]
        super().__init__(
            f"wrapped key does not open with the key {shown(kid)}",
            hint="the image was encrypted with another key, or its annotation was changed",
        )
