"""XML of the OSS API: what is read, what is refused, and that nothing else ever escapes."""

from __future__ import annotations

from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.documents import parse, parse_error_code, parse_list, render_deletion
from ossmount.errors import OssAnswerError

CONTENTS = (
    "<Contents><Key>a%2Fb</Key><LastModified>2015-02-02T05:15:13.000Z</LastModified>"
    "<ETag>&quot;5B3C&quot;</ETag><Size>7</Size></Contents>"
)


def listing(inner: str, *, truncated: str = "false") -> bytes:
    return (
        '<?xml version="1.0"?><ListBucketResult><EncodingType>url</EncodingType>'
        f"<IsTruncated>{truncated}</IsTruncated>{inner}</ListBucketResult>"
    ).encode()


def test_a_page() -> None:
    inner = CONTENTS + "<CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes>"
    page = parse_list(listing(inner), limit=10)
    assert [(item.key, item.size, item.etag) for item in page.objects] == [("a/b", 7, '"5B3C"')]
    assert (page.prefixes, page.next_token) == (("d/",), None)


def test_a_key_that_is_not_utf8_is_counted_and_hidden() -> None:
    page = parse_list(listing(CONTENTS.replace("a%2Fb", "%FF")), limit=10)
    assert (page.objects, page.hidden) == ((), 1)


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    b"<ListBucketResult><Name>&b;</Name></ListBucketResult>"
)
REFUSED = {
    "entities": BOMB,
    "external-entity": b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><ListBucketResult/>',
    "other-root": b"<Error><Code>X</Code></Error>",
    "not-xml": b"{}",
    "empty": b"",
    "too-deep": b"<ListBucketResult>" + b"<a>" * 20,
    "not-url-encoded": listing(CONTENTS).replace(b"url", b"raw"),
    "negative-size": listing(CONTENTS.replace("7", "-7")),
    "no-date": listing(CONTENTS.replace("2015", "x")),
    "truncated-without-token": listing(CONTENTS, truncated="true"),
    "too-many": listing(CONTENTS * 3),
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=list(REFUSED))
def test_refused_pages(content: bytes) -> None:
    with pytest.raises(OssAnswerError):
        parse_list(content, limit=2)


@given(st.binary(max_size=300))
def test_any_bytes_give_our_error_only(content: bytes) -> None:
    with pytest.raises(OssAnswerError):
        parse_list(content, limit=2)


@given(st.text(max_size=40).map(lambda text: f"<Error><Code>{escape(text)}</Code></Error>"))
def test_an_error_code_is_a_plain_word_or_nothing(document: str) -> None:
    code = parse_error_code(document.encode(errors="replace"))
    assert code == "" or (code.isascii() and code.isalnum())


KEY_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Co", "Cn"], include_characters="\t\r\n&<>\"'")
)


@given(st.lists(KEY_TEXT, max_size=5))
def test_a_deletion_names_exactly_its_keys(keys: list[str]) -> None:
    root = parse("test", render_deletion(keys), "Delete")
    assert [item.find("Key") for item in root.all("Object")] == keys
