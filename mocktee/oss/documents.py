"""XML bodies: small trees out, small trees in.

Incoming documents are read with expat and may hold neither a DTD nor entities; depth, element
count and size are bounded by the caller's byte limit and the constants here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

from mocktee.oss.errors import OssAnswerError

DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
MAX_DEPTH: Final = 8
MAX_ELEMENTS: Final = 64_000  # ten thousand parts of four elements, with room

# Control characters go out as references: a literal CR or LF would be normalised by the reader.
_REFERENCES: Final = {chr(code): f"&#{code};" for code in range(0x20)}


def element(name: str, *content: str) -> str:
    """An element around content that is already markup."""
    return f"<{name}>{''.join(content)}</{name}>"


def text_element(name: str, text: str | int) -> str:
    return f"<{name}>{escape(str(text), _REFERENCES)}</{name}>"


def document(root: str) -> bytes:
    return (DECLARATION + root).encode("utf-8", "surrogateescape")


@dataclass(slots=True)
class Node:
    """One received element; ``text`` is its own character data."""

    name: str
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def all(self, name: str) -> Iterator[Node]:
        return (child for child in self.children if child.name == name)

    def value(self, name: str) -> str:
        """Text of the only child of that name. Raises :class:`OssAnswerError`."""
        found = list(self.all(name))
        if len(found) != 1:
            raise malformed(f"expected one {name} in {self.name}")
        return found[0].text


def malformed(detail: str) -> OssAnswerError:
    return OssAnswerError(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published "
        f"schema ({detail}).",
    )


class _Builder:
    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []
        self._count = 0

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise malformed("too many elements")
        node = Node(name)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def end(self, _name: str) -> None:
        self._open.pop()

    def characters(self, data: str) -> None:
        self._open[-1].text += data

    def doctype(self, *_arguments: object) -> None:
        raise malformed("a document type is not accepted")


def parse_document(body: bytes, root_name: str) -> Node:
    """Raises :class:`OssAnswerError` (MalformedXML)."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise malformed(expat.ErrorString(error.code)) from error
    if builder.root is None or builder.root.name != root_name:
        raise malformed(f"expected {root_name}")
    return builder.root
