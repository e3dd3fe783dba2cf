"""The operator's side of a KBS: storing a resource. Runs where keys are made, never in a guest.

Source: trustee ``kbs/docs/admin.md`` and ``tools/kbs-client``; an Ed25519 key signs a token that is
good for minutes, with the claims that every release from v0.8 to v0.21 looks for.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final, Self

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kbs.client import API_PREFIX
from kbs.errors import KbsError
from kbs.http_link import HttpLink
from kbs.peer_json import encode_base64url
from kbs.problem import read_refusal
from kbs.resource_uri import RESOURCE_PLUGIN, ResourceUri
from kbs.tls import KbsTls
from secrecy import Secret

TOKEN_SECONDS: Final = 300
SKEW_SECONDS: Final = 30  # that the operator's clock may be ahead
ROLE: Final = "admin"
REQUEST_SECONDS: Final = 30.0
MAX_ERROR_BYTES: Final = 16 * 1024
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}")


class AdminKeyError(KbsError):
    """The operator's key or token cannot be used. Its content is never shown."""

    def __init__(self, source: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{source}: {problem}", hint=hint)


def sign_admin_token(
    pem: Secret, source: str, *, role: str = ROLE, clock: Callable[[], float] = time.time
) -> Secret:
    """Return a token signed by the Ed25519 private key ``pem``. Raises :class:`AdminKeyError`."""
    try:
        key = load_pem_private_key(pem.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without "from": the reader's text may show what it read.
        raise AdminKeyError(
            source, "not a private key in PEM without a password",
            hint="openssl genpkey -algorithm ed25519",
        ) from None  # fmt: skip
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise AdminKeyError(source, "not an Ed25519 key", hint="openssl genpkey -algorithm ed25519")
    now = int(clock())
    claims = {
        "iat": now - SKEW_SECONDS, "nbf": now - SKEW_SECONDS, "exp": now + TOKEN_SECONDS,
        "role": role,
    }  # fmt: skip
    parts = (_section({"typ": "JWT", "alg": "EdDSA"}), _section(claims))
    signed = ".".join(parts)
    return Secret(f"{signed}.{encode_base64url(key.sign(signed.encode()))}")


def read_admin_token(content: Secret, source: str) -> Secret:
    """Return a ready-made token without white space around. Raises :class:`AdminKeyError`."""
    token = content.reveal().strip()
    if not _TOKEN.fullmatch(token):  # nothing that could end a header and begin another
        raise AdminKeyError(source, "not a token of three parts")
    return Secret(token)


class KbsAdmin:
    """Speaks to one KBS as its administrator. ``async with`` closes its connections."""

    def __init__(self, url: str, token: Secret, tls: KbsTls | None = None) -> None:
        """Raises :class:`~kbs.errors.KbsUrlError` or :class:`~kbs.errors.KbsTlsError`."""
        self._link = HttpLink(url, tls if tls is not None else KbsTls())
        self._token = token

    async def put_resource(self, uri: ResourceUri, content: bytes) -> None:
        """Store ``content`` under ``uri``, in place of what is there. Sent once.

        Raises :class:`~kbs.errors.KbsError`; a refusal is ``decided``.
        """
        attempted = f"storing {uri} at {self._link.base_url}"
        if uri.plugin != RESOURCE_PLUGIN:
            raise AdminKeyError(attempted, "only plugin resource stores what it is given")
        uri.require_resource_path()
        answer = await self._link.send(
            "POST",
            f"{API_PREFIX}/{RESOURCE_PLUGIN}/{'/'.join(uri.segments)}",
            headers={
                "Authorization": f"Bearer {self._token.reveal_text()}",
                "Content-Type": "application/octet-stream",
            },
            body=content,
            max_bytes=MAX_ERROR_BYTES,
            max_error_bytes=MAX_ERROR_BYTES,
            seconds=REQUEST_SECONDS,
            deadline=asyncio.get_running_loop().time() + REQUEST_SECONDS,
            attempted=attempted,
        )
        if answer.status != 200:
            raise read_refusal(
                answer.status, answer.body, attempted=attempted, client_version="",
                retry_after=answer.retry_after,
            )  # fmt: skip

    async def aclose(self) -> None:
        """Close all connections, for good."""
        await self._link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def _section(members: dict[str, object]) -> str:
    return encode_base64url(msgspec.json.encode(members))
