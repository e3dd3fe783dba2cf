"""What stops a hook. No message holds a secret; every one may be shown to a person in the guest."""

from __future__ import annotations

from typing import Final

MAX_TEXT: Final = 400  # characters of a subject or reason; both can quote what the host chose


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters."""
    line = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "…"


class HookError(Exception):
    """Base of all. ``subject`` is what it is about, ``reason`` why it cannot be."""

    def __init__(self, subject: str, reason: str) -> None:
        self.subject = one_line(subject)
        self.reason = one_line(reason)
        super().__init__(f"{self.subject}: {self.reason}")


class StateError(HookError):
    """The container state on standard input is not one, or names a process that is not its own."""

    def __init__(self, reason: str) -> None:
        super().__init__("container state", reason)


class BundleError(HookError):
    """The bundle cannot be trusted or read."""


class HookSettingsError(HookError):
    """``hooks.toml`` is not usable. A broken configuration never means the defaults."""


class RefusedError(HookError):
    """What a container asks for is not given to it: by rule, or by the hub."""


class DeliveryError(HookError):
    """The system did not do what delivering takes."""
