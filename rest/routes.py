"""From a request line to a call, and from a refusal to the exact answer of the reference.

No I/O and no HTTP library: method and raw target in, a call or a finished reply out. Routes,
statuses and bodies are those of api-server-rest (guest-components, api-server-rest/src/router.rs);
the target is never percent-decoded for resources.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

import msgspec

MAX_TARGET: Final = 4096  # characters of path and query; a resource URI has at most 2048
MAX_BODY: Final = 256 * 1024  # bytes of an event; measured content is far smaller
MAX_QUERY_FIELDS: Final = 8
RESOURCE_PREFIX: Final = "/cdh/resource"
OCTETS: Final = "application/octet-stream"
JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)", re.ASCII | re.IGNORECASE)


class Feature(StrEnum):
    """What a server offers; the reference's ``--features``."""

    RESOURCE = "resource"
    ATTESTATION = "attestation"
    ALL = "all"

    @property
    def has_attestation(self) -> bool:
        return self is not Feature.RESOURCE

    @property
    def has_resource(self) -> bool:
        return self is not Feature.ATTESTATION


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer. ``body`` may be a resource or a token: never log it."""

    status: int
    body: bytes
    content_type: str = TEXT
    retry_after: int | None = None  # seconds

    def __repr__(self) -> str:
        return f"Reply({self.status}, <{len(self.body)} bytes>)"


@dataclass(frozen=True, slots=True)
class ResourceCall:
    uri: str


@dataclass(frozen=True, slots=True)
class TokenCall:
    token_type: str


@dataclass(frozen=True, slots=True)
class EvidenceCall:
    runtime_data: bytes
    additional: bool


@dataclass(frozen=True, slots=True)
class ExtendCall:
    """The event is in the body, which has not been read yet."""


@dataclass(frozen=True, slots=True)
class InfoCall:
    pass


class Probe(StrEnum):
    """What a supervisor asks; served on every listener and to everybody."""

    LIVE = "livez"
    READY = "readyz"


@dataclass(frozen=True, slots=True)
class ProbeCall:
    probe: Probe


@dataclass(frozen=True, slots=True)
class DocumentCall:
    """The OpenAPI document."""


Call: TypeAlias = (
    ResourceCall | TokenCall | EvidenceCall | ExtendCall | InfoCall | ProbeCall | DocumentCall
)

NOT_FOUND: Final = Reply(404, b"URL NOT FOUND")
BAD_REQUEST: Final = Reply(400, b"BAD REQUEST")
FORBIDDEN: Final = Reply(403, b"Forbidden")
METHOD_NOT_ALLOWED: Final = Reply(405, b"Method Not Allowed")
NO_ATTESTATION: Final = Reply(404, b"Attestation Feature Not Enabled")
NO_RESOURCE: Final = Reply(404, b"Resource Feature Not Enabled")
# The first words are the reference's, its spelling included.
ILLEGAL_EVENT: Final = (
    b"Illegal AAEL eventry format: the body must be JSON with the texts domain, operation and "
    b"content"
)


class Event(msgspec.Struct):
    """Body of ``POST /aa/aael``: one runtime event. Further members are ignored, as there."""

    domain: str
    operation: str
    content: str


def route(method: str, target: str, feature: Feature) -> Call | Reply:
    """Return what ``method target`` asks for, or the reply that refuses it.

    ``target`` is the raw request target, query included, in origin or absolute form.
    """
    if len(target) > MAX_TARGET or not _is_utf8(target):
        return BAD_REQUEST
    path, _, query = origin_form(target).partition("?")
    if path.startswith("/cdh/"):
        return _resource(path, feature)
    if path.startswith("/aa/"):
        return _attestation(method, path, query) if feature.has_attestation else NO_ATTESTATION
    call = _ALWAYS.get(path)
    if call is None:
        return NOT_FOUND
    return call if method == "GET" else METHOD_NOT_ALLOWED


def _is_utf8(target: str) -> bool:
    """Raw bytes that are no UTF-8 stand in a target as surrogates, which nothing can encode."""
    try:
        target.encode()
    except UnicodeEncodeError:
        return False
    return True


def origin_form(target: str) -> str:
    """Return path and query of a request target: RFC 9112 3.2.2 wants absolute forms accepted.

    A fragment has no business here and is dropped, as by the reference's HTTP library.
    """
    found = _ABSOLUTE.match(target)
    return (target[found.end() :] if found else target).partition("#")[0]


def authority_of(target: str) -> str | None:
    """Return host and port of an absolute form, which count instead of the Host header."""
    found = _ABSOLUTE.match(target)
    return found[1] if found else None


# The routes of every feature set. The last three are ours.
_ALWAYS: Final[dict[str, Call]] = {
    "/info": InfoCall(),
    "/livez": ProbeCall(Probe.LIVE),
    "/readyz": ProbeCall(Probe.READY),
    "/openapi.json": DocumentCall(),
}


def _resource(path: str, feature: Feature) -> Call | Reply:
    """Any method; the rest of the path is the URI's path as it stands, the query is dropped."""
    if not feature.has_resource:
        return NO_RESOURCE
    if not path.startswith(f"{RESOURCE_PREFIX}/"):
        return NOT_FOUND
    return ResourceCall("kbs://" + path[len(RESOURCE_PREFIX) :])


def _attestation(method: str, path: str, query: str) -> Call | Reply:
    match method, path:
        case "POST", "/aa/aael":
            return ExtendCall()
        case "GET", "/aa/token":
            token_type = (_fields(query) or {}).get("token_type")
            return BAD_REQUEST if token_type is None else TokenCall(token_type)
        case "GET", "/aa/evidence":
            return _evidence(query, additional=False)
        case "GET", "/aa/additional-evidence":
            return _evidence(query, additional=True)
        case _:
            return NOT_FOUND


def _evidence(query: str, *, additional: bool) -> Call | Reply:
    fields = _fields(query) or {}
    text = fields.get("runtime_data")
    data = None if text is None else _runtime_data(text, fields.get("encoding"))
    return BAD_REQUEST if data is None else EvidenceCall(data, additional)


def _runtime_data(text: str, encoding: str | None) -> bytes | None:
    """Return the bytes; None for an unknown encoding or text that is not unpadded base64url."""
    if encoding is None:
        return text.encode()
    if encoding != "base64" or not _BASE64URL.fullmatch(text):
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    # As the reference's decoder: bits beyond the last byte are zero, so one text for one value.
    return data if base64.urlsafe_b64encode(data).rstrip(b"=") == text.encode() else None


def _fields(query: str) -> dict[str, str] | None:
    """Return the query as a mapping, None if it is malformed. Of a field given twice the last.

    Bytes that are no UTF-8 are refused. The reference puts a replacement character in their
    place, and evidence over something else than was asked for.
    """
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError:
        return None
    return dict(pairs)


def parse_event(body: bytes) -> Event | Reply:
    """Parse an event. The reference answers a bad body with 500 and a text; so does this."""
    try:
        return msgspec.json.decode(body, type=Event)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Reply(500, ILLEGAL_EVENT)


# Results of ExtendRuntimeMeasurement; the blank after "message": is the reference's.
_REFUSED: Final = {
    1: "The platform does not support runtime measurement",
    2: "Attestation Agent does not enable eventlog recording",
}


def extend_reply(result: int) -> Reply:
    """Return the reply for a result number. ``success`` is a text, not a boolean."""
    if result == 0:
        return Reply(200, b'{"success":"true"}', JSON)
    problem = _REFUSED.get(result, "Unknown runtime measurement result")
    return Reply(200, f'{{"success":"false","message": "{problem}"}}'.encode(), JSON)


def info_reply(version: str, tee: str | None, additional_tees: list[str], feature: str) -> Reply:
    """Return the reply of ``/info``; members that do not apply are left out."""
    members: dict[str, str | list[str]] = {"version": f"Guest Components Version: {version}"}
    if tee is not None:
        members["tee"] = tee
    if additional_tees:
        members["additional_tees"] = additional_tees
    members["feature"] = feature
    return Reply(200, msgspec.json.encode(members), JSON)
