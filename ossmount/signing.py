"""OSS request signatures (V4 and V1), made by the ``oss2`` library.

Only ``oss2.auth`` is used: a request is described with ``oss2.http.Request``, signed in place, and
its headers are sent by our own transport. oss2 writes strings to sign and tokens at debug level,
so its logger is held at warning here as well as by the log configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import oss2.auth
import oss2.credentials
import oss2.http

from ossmount.launch import Credentials

logging.getLogger("oss2").setLevel(logging.WARNING)

USER_AGENT = "confidential-guest-ossmount"


class Signer(Protocol):
    """Turns the parts of a request into the headers to send."""

    def sign(
        self, method: str, key: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> dict[str, str]:
        """Return ``headers`` plus date, token and ``authorization``."""
        ...


class _Provider:
    """Opens the secrets for the duration of one signature instead of keeping them as text."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> Any:
        token = self._credentials.security_token
        return oss2.credentials.Credentials(
            self._credentials.access_key_id.reveal_text(),
            self._credentials.access_key_secret.reveal_text(),
            "" if token is None else token.reveal_text(),
        )


class OssSigner:
    """Signs for one bucket with one access key."""

    def __init__(
        self,
        credentials: Credentials,
        bucket: str,
        *,
        version: Literal["v4", "v1"],
        region: str | None,
    ) -> None:
        provider = _Provider(credentials)
        self._bucket = bucket
        self._region = region
        self._auth: Any = (
            oss2.auth.ProviderAuthV4(provider)
            if version == "v4"
            else oss2.auth.ProviderAuth(provider)
        )

    def sign(
        self, method: str, key: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> dict[str, str]:
        """Sign one request. ``key`` is raw, empty for a call on the bucket; so are ``params``.

        The URL plays no part in either signature. Host, Range and body are not covered, which is
        why the transport insists on TLS.
        """
        request = oss2.http.Request(
            method,
            "",
            params=dict(params),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
            region=self._region,
            product="oss",
        )
        self._auth._sign_request(request, self._bucket, key)  # noqa: SLF001 - the library's seam
        return {name: value for name, value in request.headers.items() if value is not None}
