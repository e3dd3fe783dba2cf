"""A request in OSS terms: bucket, key, query and headers, taken from the bytes of the request line.

Owns addressing (virtual host and path style) and percent decoding. Says nothing about who sent the
request: authentication works on the value made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes

from mocktee.oss.errors import OssAnswerError

MAX_KEY_BYTES: Final = 1023
VIRTUAL_HOST_SUFFIX: Final = ".localhost"
_BUCKET_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]")


@dataclass(frozen=True, slots=True)
class OssRequest:
    """``bucket`` is empty for service calls and ``key`` for bucket calls; nothing is verified."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # lower-case names

    @classmethod
    def parse(
        cls, method: str, target: str, host: str, headers: Iterable[tuple[str, str]]
    ) -> OssRequest:
        """Raises :class:`OssAnswerError` for names and paths that OSS does not accept."""
        path, _, query = target.partition("?")
        bucket, key = _address(path, host)
        lowered = {name.lower(): value.strip() for name, value in headers}
        return cls(method, bucket, key, _query(query), lowered)

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


def virtual_bucket(host: str) -> str:
    """The bucket that a Host header names, empty for path style."""
    name = host.partition(":")[0]
    if not name.endswith(VIRTUAL_HOST_SUFFIX):
        return ""
    return name.removesuffix(VIRTUAL_HOST_SUFFIX)


def valid_bucket_name(name: str) -> bool:
    return _BUCKET_NAME.fullmatch(name) is not None


def decode_key(raw: str) -> str:
    """The object key in a percent-encoded path. Raises :class:`OssAnswerError`."""
    name = unquote_to_bytes(raw)
    if len(name) > MAX_KEY_BYTES:
        raise OssAnswerError("InvalidObjectName", "The length of object name exceeds 1023 bytes.")
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OssAnswerError("InvalidObjectName", "The object name is not UTF-8.") from error


def _address(path: str, host: str) -> tuple[str, str]:
    rest = path.removeprefix("/")
    bucket, raw_key = virtual_bucket(host), rest
    if not bucket:
        bucket, _, raw_key = rest.partition("/")
    if bucket and not valid_bucket_name(bucket):
        raise OssAnswerError("InvalidBucketName", "The specified bucket is not valid.")
    return bucket, decode_key(raw_key)


def _query(text: str) -> dict[str, str]:
    """Decoded parameters; ``+`` is a blank, since clients send form-encoded queries."""
    found: dict[str, str] = {}
    for field in text.split("&") if text else ():
        name, _, value = field.partition("=")
        found[unquote_plus(name)] = unquote_plus(value)
    return found
