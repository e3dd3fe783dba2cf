"""What can go wrong with a key management service, by who is at fault.

::

    KmsError
    ├── KmsRequestError       a provider, setting or annotation that cannot be used
    ├── KmsCredentialError    credential files of this guest: absent, unreadable, not of their form
    ├── KmsUnreachableError   no connection, no TLS, no answer in time
    ├── KmsRefusedError       the service said no
    └── KmsAnswerError        an answer that is not of the service's protocol

No class holds a secret, a credential or unbounded text of a peer.
"""

from __future__ import annotations

from typing import Final

MAX_PEER_TEXT: Final = 200  # characters of a code or message that the service sent


class KmsError(Exception):
    """Base of all errors of this package. ``hint`` says what can be done about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class KmsRequestError(KmsError):
    """The sealed secret asks for something that no service here can do."""

    def __init__(self, provider: str, problem: str, *, hint: str = "") -> None:
        self.provider = shown(provider)
        super().__init__(f"key management service {self.provider!r}: {problem}", hint=hint)


class KmsCredentialError(KmsError):
    """A credential file cannot be used. Names the file, never what is in it."""

    def __init__(self, path: str, problem: str, *, hint: str = "") -> None:
        self.path = path
        super().__init__(f"credential file {path}: {problem}", hint=hint)


class KmsUnreachableError(KmsError):
    """The way to the service failed; what it would have said is unknown."""

    def __init__(self, host: str, attempted: str, problem: str, *, hint: str = "") -> None:
        self.host = host
        super().__init__(f"{attempted} at {host}: {problem}", hint=hint)


class KmsRefusedError(KmsError):
    """The service answered with an error of its own. ``code`` and ``request_id`` are the peer's.

    ``decided``: it said no, as opposed to being overloaded or broken.
    """

    def __init__(
        self, host: str, attempted: str, *, status: int, code: str, text: str, request_id: str
    ) -> None:
        self.host = host
        self.status = status
        self.decided = status < 500 and status != 429
        self.code = shown(code)
        self.request_id = shown(request_id)
        super().__init__(
            f"{attempted} at {host}: refused with status {status}, {self.code}: {shown(text)}",
            hint=f"the service knows this as request {self.request_id}",
        )


class KmsAnswerError(KmsError):
    """The service's answer is not what its protocol promises."""

    def __init__(self, host: str, attempted: str, problem: str) -> None:
        self.host = host
        super().__init__(f"{attempted} at {host}: {problem}")


def shown(text: str) -> str:
    """Return a peer's text as one printable line of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_PEER_TEXT]).strip()
