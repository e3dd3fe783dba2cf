"""Headers that are stored with an object, and the rules for user metadata.

Source: OSS documents "PutObject" and error classes 0011-00000002 and 0011-00000004.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mocktee.oss.errors import OssAnswerError

USER_PREFIX: Final = "x-oss-meta-"
MAX_USER_BYTES: Final = 8 << 10
_STANDARD: Final = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-oss-storage-class",
)
_USER_NAME: Final = re.compile(r"[a-z0-9-]+")
_OVERRIDE: Final = "response-"


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The part of a write request's headers that belongs to the object.

    Raises :class:`OssAnswerError` for names with characters OSS refuses (an underscore is one) and
    for 8 KB of user metadata or more.
    """
    kept = {name: headers[name] for name in _STANDARD if name in headers}
    total = 0
    for name, value in headers.items():
        if not name.startswith(USER_PREFIX):
            continue
        if _USER_NAME.fullmatch(name.removeprefix(USER_PREFIX)) is None:
            raise OssAnswerError(
                "InvalidArgument",
                "The user metadata name is invalid.",
                error_class="0011-00000002",
                fields={"ArgumentName": name[:64]},
            )
        total += len(name.removeprefix(USER_PREFIX)) + len(value.encode("utf-8", "surrogateescape"))
        kept[name] = value
    if total >= MAX_USER_BYTES:
        raise OssAnswerError(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size.",
            error_class="0011-00000004",
        )
    return kept


def response_overrides(query: Mapping[str, str]) -> dict[str, str]:
    """``response-content-type`` and its like: headers that a GET request asks for."""
    return {
        name.removeprefix(_OVERRIDE): value
        for name, value in query.items()
        if name.startswith(_OVERRIDE) and name.removeprefix(_OVERRIDE) in _STANDARD
    }
