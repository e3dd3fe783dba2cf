"""What can go wrong between starting a process and serving, and what to do about it."""

from __future__ import annotations


class LifecycleError(Exception):
    """Base of all errors of this package. ``hint`` says what an operator can do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class SettingsError(LifecycleError):
    """A configuration source cannot be read or holds something that is not allowed."""

    def __init__(self, source: str, problem: str, *, hint: str = "") -> None:
        self.source = source
        self.problem = problem
        super().__init__(f"configuration {source}: {problem}", hint=hint)


class UnmeasuredSettingError(SettingsError):
    """A value that weakens security is from a source that attestation does not cover."""

    def __init__(self, key: str, source: str, reason: str, why_unmeasured: str) -> None:
        self.key = key
        super().__init__(
            source,
            f"{key} is refused from there, because it weakens security ({reason}) and"
            f" {why_unmeasured}",
            hint="write it into a configuration file of the image or of verified initdata",
        )


class SocketError(LifecycleError):
    """A listening socket cannot be made."""

    def __init__(self, address: str, problem: str, *, hint: str = "") -> None:
        self.address = address
        super().__init__(f"listening on {address}: {problem}", hint=hint)


class AddressInUseError(SocketError):
    """Somebody already answers on this address."""

    def __init__(self, address: str) -> None:
        super().__init__(
            address,
            "another process already answers there",
            hint="stop the other instance, or configure another socket",
        )
