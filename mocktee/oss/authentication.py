"""Who sent a request: Authorization header or presigned query, both signature versions, STS tokens.

Owns the key ring and the clock comparison. Raises the errors OSS answers with; decides nothing
about what the sender may do.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from mocktee.oss.errors import OssAnswerError
from mocktee.oss.request import OssRequest
from mocktee.oss.signature import (
    V4_ALGORITHM,
    V4_TERMINATOR,
    Scope,
    v1_signature,
    v1_string_to_sign,
    v4_canonical_request,
    v4_signature,
    v4_string_to_sign,
)

MAX_SKEW_SECONDS: Final = 15 * 60
MAX_PRESIGNED_SECONDS: Final = 7 * 24 * 3600
V4_DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_V4_PART: Final = re.compile(r"(Credential|AdditionalHeaders|Signature)=([^,\s]*)")


@dataclass(frozen=True, slots=True)
class AccessKey:
    """``token`` makes it a temporary key; ``expires_at`` is in unix seconds."""

    key_id: str
    secret: str
    token: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class _V4Claim:
    key_id: str
    scope: Scope
    timestamp: str
    additional: tuple[str, ...]
    signature: str


class Authenticator:
    """Verifies signatures against the keys it was given; ``clock`` returns unix seconds."""

    def __init__(self, region: str, clock: Callable[[], float]) -> None:
        self._region = region
        self._clock = clock
        self._keys: dict[str, AccessKey] = {}

    def add(self, key: AccessKey) -> None:
        self._keys[key.key_id] = key

    def remove(self, key_id: str) -> None:
        self._keys.pop(key_id, None)

    def authenticate(self, request: OssRequest) -> AccessKey:
        """The key that signed the request. Raises :class:`OssAnswerError` otherwise."""
        authorization = request.header("authorization")
        if authorization is not None:
            if authorization.startswith(V4_ALGORITHM):
                return self._v4_header(request, authorization.removeprefix(V4_ALGORITHM))
            return self._v1_header(request, authorization)
        if "x-oss-signature" in request.query:
            return self._v4_presigned(request)
        if "Signature" in request.query:
            return self._v1_presigned(request)
        raise OssAnswerError("AccessDenied", "The bucket you are visiting is not public.")

    # -- version 1 --

    def _v1_header(self, request: OssRequest, authorization: str) -> AccessKey:
        kind, _, credential = authorization.partition(" ")
        key_id, colon, signature = credential.partition(":")
        if kind != "OSS" or not colon or not key_id:
            raise _malformed(authorization)
        date_line = request.header("x-oss-date") or request.header("date") or ""
        self._check_skew(_http_date(date_line))
        key = self._find(key_id)
        self._compare_v1(key, request, date_line, signature)
        self._check_token(key, request.header("x-oss-security-token"))
        return key

    def _v1_presigned(self, request: OssRequest) -> AccessKey:
        expires = request.query.get("Expires", "")
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            raise OssAnswerError("AccessDenied", "Invalid date in Expires.")
        if int(expires) < self._clock():
            raise OssAnswerError("AccessDenied", "Request has expired.")
        key = self._find(request.query.get("OSSAccessKeyId", ""))
        self._compare_v1(key, request, expires, request.query["Signature"])
        self._check_token(key, request.query.get("security-token"))
        return key

    @staticmethod
    def _compare_v1(key: AccessKey, request: OssRequest, date_line: str, signature: str) -> None:
        text = v1_string_to_sign(request, date_line)
        _compare(key, v1_signature(key.secret, text), signature, text)

    # -- version 4 --

    def _v4_header(self, request: OssRequest, fields: str) -> AccessKey:
        found = dict(_V4_PART.findall(fields))
        if "Credential" not in found or "Signature" not in found:
            raise _malformed(fields)
        claim = _V4Claim(
            *_credential(found["Credential"]),
            timestamp=request.header("x-oss-date") or "",
            additional=_additional(found.get("AdditionalHeaders")),
            signature=found["Signature"],
        )
        self._check_skew(_v4_date(claim.timestamp))
        return self._check_v4(request, claim, request.header("x-oss-security-token"))

    def _v4_presigned(self, request: OssRequest) -> AccessKey:
        query = request.query
        if query.get("x-oss-signature-version") != V4_ALGORITHM:
            raise _malformed("x-oss-signature-version")
        claim = _V4Claim(
            *_credential(query.get("x-oss-credential", "")),
            timestamp=query.get("x-oss-date", ""),
            additional=_additional(query.get("x-oss-additional-headers") or None),
            signature=query["x-oss-signature"],
        )
        self._check_expiry(_v4_date(claim.timestamp), query.get("x-oss-expires", ""))
        # The payload of a presigned request is never signed, whatever its headers say.
        headers = {k: v for k, v in request.headers.items() if k != "x-oss-content-sha256"}
        return self._check_v4(
            replace(request, headers=headers), claim, query.get("x-oss-security-token")
        )

    def _check_v4(self, request: OssRequest, claim: _V4Claim, token: str | None) -> AccessKey:
        if claim.scope.region != self._region or claim.scope.product != "oss":
            raise OssAnswerError(
                "InvalidArgument", f"Invalid signing region in Authorization header: {claim.scope}"
            )
        if not claim.timestamp.startswith(claim.scope.date):
            raise OssAnswerError("InvalidArgument", "Invalid signing date in Authorization header.")
        key = self._find(claim.key_id)
        canonical = v4_canonical_request(request, claim.additional)
        text = v4_string_to_sign(canonical, claim.timestamp, claim.scope)
        expected = v4_signature(key.secret, claim.scope, text)
        _compare(key, expected, claim.signature, text, {"CanonicalRequest": canonical})
        self._check_token(key, token)
        return key

    # -- common --

    def _find(self, key_id: str) -> AccessKey:
        key = self._keys.get(key_id)
        if key is None:
            raise OssAnswerError(
                "InvalidAccessKeyId",
                "The OSS Access Key Id you provided does not exist in our records.",
                fields={"OSSAccessKeyId": key_id[:128]},
            )
        return key

    def _check_skew(self, sent_at: datetime) -> None:
        if abs(sent_at.timestamp() - self._clock()) > MAX_SKEW_SECONDS:
            now = datetime.fromtimestamp(self._clock(), UTC)
            raise OssAnswerError(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
                fields={
                    "MaxAllowedSkewMilliseconds": str(MAX_SKEW_SECONDS * 1000),
                    "RequestTime": sent_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                    "ServerTime": now.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                },
            )

    def _check_expiry(self, signed_at: datetime, seconds: str) -> None:
        if not seconds.isascii() or not seconds.isdigit() or len(seconds) > 7:
            raise OssAnswerError("InvalidArgument", "Invalid x-oss-expires.")
        if not 1 <= int(seconds) <= MAX_PRESIGNED_SECONDS:
            raise OssAnswerError("InvalidArgument", "x-oss-expires is out of range.")
        now, start = self._clock(), signed_at.timestamp()
        if not start - MAX_SKEW_SECONDS <= now <= start + int(seconds):
            raise OssAnswerError("AccessDenied", "Request has expired.")

    def _check_token(self, key: AccessKey, token: str | None) -> None:
        if key.token is None and token is None:
            return
        if key.token is None or token is None or not _equal(key.token, token):
            raise OssAnswerError(
                "InvalidSecurityToken", "The security token you provided is invalid."
            )
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise OssAnswerError(
                "SecurityTokenExpired", "The security token you provided has expired."
            )


def _compare(
    key: AccessKey,
    expected: str,
    given: str,
    string_to_sign: str,
    fields: Mapping[str, str] | None = None,
) -> None:
    if _equal(expected, given):
        return
    raise OssAnswerError(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.",
        fields={
            "OSSAccessKeyId": key.key_id,
            "SignatureProvided": given[:256],
            "StringToSign": string_to_sign,
            "StringToSignBytes": string_to_sign.encode("utf-8", "surrogateescape").hex(" ").upper(),
            **(fields or {}),
        },
    )


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(
        one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    )


def _malformed(what: str) -> OssAnswerError:
    return OssAnswerError(
        "InvalidArgument", f"Authorization header is invalid near {what.strip()[:32]!r}."
    )


def _credential(text: str) -> tuple[str, Scope]:
    parts = text.split("/")
    if len(parts) != 5 or parts[4] != V4_TERMINATOR or not all(parts):
        raise _malformed("Credential")
    return parts[0], Scope(parts[1], parts[2], parts[3])


def _additional(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.lower() for name in text.split(";"))
    if not all(names):
        raise OssAnswerError(
            "InvalidArgument",
            "AdditionalHeaders of the Authorization header is empty or ends with a semicolon.",
            error_class="0002-00000210" if text else "0002-00000209",
        )
    return names


def _http_date(text: str) -> datetime:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError) as error:
        raise OssAnswerError("AccessDenied", "OSS authentication requires a valid Date.") from error
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def _v4_date(text: str) -> datetime:
    try:
        return datetime.strptime(text, V4_DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise OssAnswerError(
            "AccessDenied", "OSS authentication requires a valid x-oss-date."
        ) from error
