"""XML of the OSS API: bytes from the network to frozen values, and the few documents we send.

Parsed with expat and no document type declaration at all, so no entities; depth, size and number
of elements are bounded. Unknown elements are skipped: the server may add some at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes
from xml.parsers import expat
from xml.sax.saxutils import escape

from ossmount.errors import OssAnswerError

MAX_DEPTH: Final = 8
MAX_ELEMENTS: Final = 40_000  # a page of 1000 keys has about 12,000
T = TypeVar("T")


class _RefusedDocumentError(ValueError):
    """Raised inside expat handlers; becomes an :class:`OssAnswerError` at the boundary."""


@dataclass(slots=True)
class Element:
    """A parsed element: its own text and its children in order."""

    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def find(self, name: str) -> str:
        """Return the text of the first child called ``name``, or an empty text."""
        return next((child.text for child in self.children if child.name == name), "")

    def all(self, name: str) -> Iterator[Element]:
        """Yield the children called ``name``."""
        return (child for child in self.children if child.name == name)


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._texts: list[list[str]] = []
        self._count = 0

    def start(self, name: str, _attributes: object) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) >= MAX_DEPTH:
            raise _RefusedDocumentError
        element = Element(name)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.append([])

    def text(self, data: str) -> None:
        if self._texts:
            self._texts[-1].append(data)

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def refuse(self, *_arguments: object) -> None:
        raise _RefusedDocumentError


def parse(operation: str, content: bytes, root: str) -> Element:
    """Return the root element. Raises :class:`OssAnswerError` if it is not ``root`` or not XML."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = builder.refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, _RefusedDocumentError, ValueError) as error:
        raise OssAnswerError(operation, f"an XML {root}", "something else") from error
    if builder.root is None or builder.root.name != root:
        got = builder.root.name if builder.root else "nothing"
        raise OssAnswerError(operation, f"an XML {root}", got)
    return builder.root


def _read(operation: str, expected: str, value: Callable[[], T]) -> T:
    try:
        return value()
    except ValueError as error:
        raise OssAnswerError(operation, expected, "something else") from error


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One ``Contents`` element of a listing. Listings never hold user metadata."""

    key: str
    size: int
    etag: str
    modified_ns: int


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of ListObjectsV2, in key order within each of the two sequences."""

    objects: tuple[ListedObject, ...]
    prefixes: tuple[str, ...]
    hidden: int  # keys that are not UTF-8 and therefore have no name here
    next_token: str | None


def _decoded(text: str) -> str | None:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return None


def _time_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


def parse_list(content: bytes, *, limit: int) -> ListPage:
    """Decode a ``ListBucketResult`` asked for with ``encoding-type=url``.

    Raises :class:`OssAnswerError` on missing members, more than ``limit`` entries, or a truncated
    page without a token to go on with.
    """
    operation = "ListObjectsV2"
    root = parse(operation, content, "ListBucketResult")
    if root.find("EncodingType") != "url":
        raise OssAnswerError(operation, "EncodingType url", root.find("EncodingType"))

    def entries() -> tuple[list[ListedObject], list[str], int]:
        objects: list[ListedObject] = []
        prefixes: list[str] = []
        hidden = 0
        for child in root.all("Contents"):
            key = _decoded(child.find("Key"))
            size = int(child.find("Size"))
            if size < 0:
                raise ValueError
            modified = _time_ns(child.find("LastModified"))
            if key is None:
                hidden += 1
            else:
                objects.append(ListedObject(key, size, child.find("ETag"), modified))
        for child in root.all("CommonPrefixes"):
            prefix = _decoded(child.find("Prefix"))
            if prefix is None:
                hidden += 1
            else:
                prefixes.append(prefix)
        return objects, prefixes, hidden

    objects, prefixes, hidden = _read(operation, "well-formed entries", entries)
    if len(objects) + len(prefixes) + hidden > limit:
        raise OssAnswerError(operation, f"at most {limit} entries", "more")
    token = None
    if root.find("IsTruncated") == "true":
        token = _decoded(root.find("NextContinuationToken"))
        if not token:
            raise OssAnswerError(operation, "NextContinuationToken", "none")
    return ListPage(tuple(objects), tuple(prefixes), hidden, token)


def parse_upload_id(content: bytes) -> str:
    """Return the ``UploadId`` of an ``InitiateMultipartUploadResult``."""
    operation = "InitiateMultipartUpload"
    upload_id = parse(operation, content, "InitiateMultipartUploadResult").find("UploadId")
    if not upload_id or len(upload_id) > 1024:
        raise OssAnswerError(operation, "an UploadId", "none")
    return upload_id


def parse_etag(operation: str, content: bytes, root: str) -> str:
    """Return the ``ETag`` of a copy, part-copy or completion result."""
    etag = parse(operation, content, root).find("ETag")
    if not etag:
        raise OssAnswerError(operation, "an ETag", "none")
    return etag


def parse_error_code(content: bytes) -> str:
    """Return the ``Code`` of an ``Error`` document, or an empty text when it is not one."""
    try:
        code = parse("error", content, "Error").find("Code")
    except OssAnswerError:
        return ""
    return code if len(code) <= 64 and code.isascii() and code.isalnum() else ""


def render_completion(etags: Sequence[tuple[int, str]]) -> bytes:
    """Return the body of CompleteMultipartUpload; part numbers must ascend."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in etags
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def render_deletion(keys: Sequence[str]) -> bytes:
    """Return the body of DeleteMultipleObjects in quiet mode."""
    control = {chr(code): f"&#{code};" for code in (9, 10, 13)}
    objects = "".join(f"<Object><Key>{escape(key, control)}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
