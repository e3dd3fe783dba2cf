"""Bucket calls: both listings, bucketInfo, location and stat."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from aiohttp import web

from mocktee.oss.call import Call, quoted, whole_number
from mocktee.oss.documents import element, text_element
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.listing import Page, list_page
from mocktee.oss.objects import StoredObject

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
OWNER: Final = "1234567890123456"
Encode = Callable[[str], str]


def iso_date(seconds: float) -> str:
    """Whole seconds: the millisecond digits are always zero in OSS answers, and SDKs rely on it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def encoder(query: Mapping[str, str]) -> Encode:
    """How names appear in an answer. Raises :class:`OssAnswerError` for an unknown encoding."""
    kind = query.get("encoding-type", "")
    if kind == "url":
        return lambda text: quote(text, safe="")
    if kind:
        raise OssAnswerError("InvalidArgument", "Invalid Encoding Method specified in Request.")
    return lambda text: text


def owner() -> str:
    return element("Owner", text_element("ID", OWNER), text_element("DisplayName", OWNER))


async def list_objects(call: Call) -> web.StreamResponse:
    query = call.oss.query
    encode, page, head = _page(call, query.get("marker", ""))
    head.insert(2, text_element("Marker", encode(query.get("marker", ""))))
    if page.truncated:
        head.append(text_element("NextMarker", encode(page.next_marker)))
    return _answer(call, encode, page, head, owners=True)


async def list_objects_v2(call: Call) -> web.StreamResponse:
    query = call.oss.query
    token, start_after = query.get("continuation-token", ""), query.get("start-after", "")
    after = token_marker(token) if token else start_after
    encode, page, head = _page(call, after)
    if start_after:
        head.insert(2, text_element("StartAfter", encode(start_after)))
    if token:
        head.insert(2, text_element("ContinuationToken", encode(token)))
    if page.truncated:
        next_token = marker_token(page.next_marker)
        head.append(text_element("NextContinuationToken", encode(next_token)))
    head.append(text_element("KeyCount", len(page)))
    return _answer(call, encode, page, head, owners=query.get("fetch-owner") == "true")


def marker_token(marker: str) -> str:
    """Opaque, and like the real ones in need of percent encoding."""
    return base64.b64encode(b"\n" + marker.encode()).decode()


def token_marker(token: str) -> str:
    """Raises :class:`OssAnswerError` for a token that was not made here."""
    try:
        raw = base64.b64decode(token, validate=True)
        if raw[:1] != b"\n":
            raise ValueError
        return raw[1:].decode()
    except (binascii.Error, ValueError) as error:
        raise OssAnswerError(
            "InvalidArgument", "The continuation token provided is incorrect."
        ) from error


def _page(call: Call, after: str) -> tuple[Encode, Page, list[str]]:
    query = call.oss.query
    encode = encoder(query)
    limit = whole_number(call, "max-keys", DEFAULT_PAGE, 1, MAX_PAGE)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    page = list_page(
        call.bucket.ordered, prefix=prefix, delimiter=delimiter, after=after, limit=limit
    )
    head = [
        text_element("Name", call.bucket.name),
        text_element("Prefix", encode(prefix)),
        text_element("MaxKeys", limit),
        text_element("Delimiter", encode(delimiter)),
        text_element("IsTruncated", str(page.truncated).lower()),
    ]
    if "encoding-type" in query:
        head.append(text_element("EncodingType", "url"))
    return encode, page, head


def _answer(
    call: Call, encode: Encode, page: Page, head: list[str], *, owners: bool
) -> web.StreamResponse:
    contents = [_contents(call.bucket.objects[key], encode, owners=owners) for key in page.keys]
    groups = [element("CommonPrefixes", text_element("Prefix", encode(p))) for p in page.prefixes]
    return call.xml(element("ListBucketResult", *head, *contents, *groups))


def _contents(stored: StoredObject, encode: Encode, *, owners: bool) -> str:
    return element(
        "Contents",
        text_element("Key", encode(stored.key)),
        text_element("LastModified", iso_date(stored.modified)),
        text_element("ETag", quoted(stored.etag)),
        text_element("Type", str(stored.kind)),
        text_element("Size", stored.size),
        text_element("StorageClass", stored.headers.get("x-oss-storage-class", "Standard")),
        owner() if owners else "",
    )


async def get_bucket_info(call: Call) -> web.StreamResponse:
    region = f"oss-{call.settings.region}"
    return call.xml(
        element(
            "BucketInfo",
            element(
                "Bucket",
                text_element("AccessMonitor", "Disabled"),
                text_element("Comment", ""),
                text_element("CreationDate", iso_date(call.bucket.created)),
                text_element("CrossRegionReplication", "Disabled"),
                text_element("DataRedundancyType", "LRS"),
                text_element("ExtranetEndpoint", f"{region}.aliyuncs.com"),
                text_element("IntranetEndpoint", f"{region}-internal.aliyuncs.com"),
                text_element("Location", region),
                text_element("Name", call.bucket.name),
                text_element("ResourceGroupId", "rg-mock"),
                text_element("StorageClass", "Standard"),
                text_element("TransferAcceleration", "Disabled"),
                owner(),
                element("AccessControlList", text_element("Grant", "private")),
                element("ServerSideEncryptionRule", text_element("SSEAlgorithm", "None")),
            ),
        )
    )


async def get_bucket_location(call: Call) -> web.StreamResponse:
    return call.xml(text_element("LocationConstraint", f"oss-{call.settings.region}"))


async def get_bucket_stat(call: Call) -> web.StreamResponse:
    objects = call.bucket.objects.values()
    total = sum(stored.size for stored in objects)
    latest = max((stored.modified for stored in objects), default=call.bucket.created)
    return call.xml(
        element(
            "BucketStat",
            text_element("Storage", total),
            text_element("ObjectCount", len(objects)),
            text_element("MultipartUploadCount", len(call.bucket.uploads)),
            text_element("LiveChannelCount", 0),
            text_element("LastModifiedTime", int(latest)),
            text_element("StandardStorage", total),
            text_element("StandardObjectCount", len(objects)),
        )
    )
