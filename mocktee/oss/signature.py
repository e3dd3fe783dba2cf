"""OSS request signatures, version 1 (HMAC-SHA1) and version 4 (HMAC-SHA256), as pure functions.

Written from the public OSS signature documents, not from this project's client, so that the two
check each other. Key look-up, clock skew and the form of the Authorization header are left to
:mod:`mocktee.oss.authentication`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from mocktee.oss.request import OssRequest

V4_ALGORITHM: Final = "OSS4-HMAC-SHA256"
V4_TERMINATOR: Final = "aliyun_v4_request"

# Parameters that version 1 signs; every other one is left out of the string to sign.
_V1_SIGNED_NAMES: Final = """
acl accessPoint accessPointPolicy append asyncFetch bucketArchiveDirectRead bucketInfo
callback callback-var cname comp continuation-token cors delete encryption endTime group
httpsConfig inventory inventoryId lifecycle link live location logging metaQuery objectInfo
objectMeta partNumber policy position publicAccessBlock qos qosInfo qosRequester
redundancyTransition referer regionList replication replicationLocation replicationProgress
requestPayment requesterQosInfo resourceGroup resourcePool resourcePoolBuckets
resourcePoolInfo response-cache-control response-content-disposition
response-content-encoding response-content-language response-content-type response-expires
restore security-token sequential startTime stat status style styleName symlink tagging
transferAcceleration uploadId uploads versionId versioning versions vod website worm
wormExtend wormId x-oss-ac-forward-allow x-oss-ac-source-ip x-oss-ac-subnet-mask
x-oss-ac-vpc-id x-oss-access-point-name x-oss-async-process x-oss-process
x-oss-redundancy-transition-taskid x-oss-request-payer x-oss-target-redundancy-type
x-oss-traffic-limit x-oss-write-get-object-response
"""
V1_SIGNED_PARAMETERS: Final = frozenset(_V1_SIGNED_NAMES.split())


@dataclass(frozen=True, slots=True)
class Scope:
    """What a version 4 key is derived for; ``date`` is YYYYMMDD."""

    date: str
    region: str
    product: str = "oss"

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.product}/{V4_TERMINATOR}"


def v1_string_to_sign(request: OssRequest, date_line: str) -> str:
    """``date_line`` is x-oss-date, else Date; for presigned requests the expiry time."""
    headers = "".join(
        f"{name}:{value}\n"
        for name, value in sorted(request.headers.items())
        if name.startswith("x-oss-")
    )
    head = (
        request.method,
        request.headers.get("content-md5", ""),
        request.headers.get("content-type", ""),
        date_line,
    )
    return "\n".join(head) + "\n" + headers + _v1_resource(request)


def _v1_resource(request: OssRequest) -> str:
    path = f"/{request.bucket}/{request.key}" if request.bucket else "/"
    signed = sorted(
        (name, value) for name, value in request.query.items() if name in V1_SIGNED_PARAMETERS
    )
    if not signed:
        return path
    return path + "?" + "&".join(f"{name}={value}" if value else name for name, value in signed)


def v1_signature(secret: str, string_to_sign: str) -> str:
    digest = hmac.digest(secret.encode(), _wire(string_to_sign), "sha1")
    return base64.b64encode(digest).decode()


def v1_presigned_path(key_id: str, secret: str, request: OssRequest, expires: int) -> str:
    """Path-style path and query that anybody may use until ``expires`` (unix seconds)."""
    signature = v1_signature(secret, v1_string_to_sign(request, str(expires)))
    fields = {"OSSAccessKeyId": key_id, "Expires": str(expires), "Signature": signature}
    path = quote(f"/{request.bucket}/{request.key}", safe="/")
    return f"{path}?{urlencode({**request.query, **fields})}"


def v4_canonical_request(request: OssRequest, additional: Collection[str] = ()) -> str:
    """``additional`` are the lower-case names of further signed headers."""
    path = f"/{request.bucket}/{request.key}" if request.bucket else "/"
    query = sorted(
        (quote(name, safe=""), quote(value, safe=""))
        for name, value in request.query.items()
        if name != "x-oss-signature"
    )
    headers = "".join(
        f"{name}:{value.strip()}\n"
        for name, value in sorted(request.headers.items())
        if name in {"content-type", "content-md5"}
        or name.startswith("x-oss-")
        or name in additional
    )
    payload = request.headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD")
    return "\n".join(
        (
            request.method,
            quote(path, safe="/"),
            "&".join(f"{name}={value}" if value else name for name, value in query),
            headers,
            ";".join(sorted(additional)),
            payload,
        )
    )


def v4_string_to_sign(canonical_request: str, timestamp: str, scope: Scope) -> str:
    digest = hashlib.sha256(_wire(canonical_request)).hexdigest()
    return "\n".join((V4_ALGORITHM, timestamp, str(scope), digest))


def v4_signature(secret: str, scope: Scope, string_to_sign: str) -> str:
    key = b"aliyun_v4" + secret.encode()
    for step in (scope.date, scope.region, scope.product, V4_TERMINATOR):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, string_to_sign.encode(), "sha256").hex()


def _wire(text: str) -> bytes:
    """Header bytes that are not UTF-8 were read with surrogates and go back to what they were."""
    return text.encode("utf-8", "surrogateescape")
