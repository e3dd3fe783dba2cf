"""The GetObject range table of the OSS documents, in both of its behaviours."""

from __future__ import annotations

import pytest

from mocktee.oss.errors import OssAnswerError
from mocktee.oss.ranges import ByteRange, select_range

SIZE = 1000
WHOLE = ByteRange(0, SIZE, partial=False)


def part(start: int, length: int) -> ByteRange:
    return ByteRange(start, length, partial=True)


TABLE = [
    # name, header, plain behaviour, standard behaviour (None: 416)
    ("no range", None, WHOLE, WHOLE),
    ("inside", "bytes=0-99", part(0, 100), part(0, 100)),
    ("one byte at the end", "bytes=999-999", part(999, 1), part(999, 1)),
    ("end of zero", "bytes=0-0", part(0, 1), part(0, 1)),
    ("open end", "bytes=100-", part(100, 900), part(100, 900)),
    ("suffix", "bytes=-100", part(900, 100), part(900, 100)),
    ("end at the size", "bytes=900-1000", WHOLE, part(900, 100)),
    ("end behind the size", "bytes=0-5000", WHOLE, part(0, 1000)),
    ("start at the size", "bytes=1000-1000", WHOLE, None),
    ("open start at the size", "bytes=1000-", WHOLE, None),
    ("start behind the size", "bytes=2000-3000", WHOLE, None),
    ("long suffix", "bytes=-5000", WHOLE, part(0, 1000)),
    ("empty suffix", "bytes=-0", WHOLE, None),
    ("wrong unit", "byte=0-9", WHOLE, WHOLE),
    ("reversed", "bytes=9-0", WHOLE, WHOLE),
    ("no numbers", "bytes=-", WHOLE, WHOLE),
    ("not a number", "bytes=a-b", WHOLE, WHOLE),
    ("several", "bytes=0-1,5-6", part(0, 2), None),
]


@pytest.mark.parametrize(
    ("header", "plain", "standard"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_range(header: str | None, plain: ByteRange, standard: ByteRange | None) -> None:
    assert select_range(header, SIZE, standard=False) == plain
    if standard is not None:
        assert select_range(header, SIZE, standard=True) == standard
        return
    with pytest.raises(OssAnswerError) as caught:
        select_range(header, SIZE, standard=True)
    assert (caught.value.status, caught.value.code) == (416, "InvalidRange")
    assert caught.value.headers["Content-Range"] == "bytes */1000"


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_empty_object(header: str) -> None:
    assert select_range(header, 0, standard=False) == ByteRange(0, 0, partial=False)
    with pytest.raises(OssAnswerError):
        select_range(header, 0, standard=True)


def test_content_range_text() -> None:
    assert part(10, 5).content_range(SIZE) == "bytes 10-14/1000"
