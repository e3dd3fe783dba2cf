"""Bucket listings of the mock server against a plain model, and CRC-64 combination."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mocktee.oss import crc64
from mocktee.oss.listing import end_of_prefix, list_page
from mocktee.oss.listing_operations import marker_token, token_marker

KEYS = st.lists(
    st.text(alphabet="ab/\U0010ffff￿", min_size=1, max_size=6), max_size=30, unique=True
)
PREFIXES = st.text(alphabet="ab/\U0010ffff", max_size=3)
DELIMITERS = st.sampled_from(["", "/", "a", "/a"])


def model(keys: list[str], prefix: str, delimiter: str) -> list[tuple[str, bool]]:
    """All entries in order: key or common prefix, and whether it is a prefix."""
    entries: dict[str, bool] = {}
    for key in sorted(keys, key=lambda text: text.encode()):
        if not key.startswith(prefix):
            continue
        head, found, _ = key.removeprefix(prefix).partition(delimiter or "\0")
        if found:
            entries.setdefault(prefix + head + delimiter, True)
        else:
            entries[key] = False
    return list(entries.items())


@given(KEYS, PREFIXES, DELIMITERS, st.integers(min_value=1, max_value=5))
def test_pages_together_give_the_model(
    keys: list[str], prefix: str, delimiter: str, limit: int
) -> None:
    ordered = sorted(keys)
    expected = model(keys, prefix, delimiter)
    found: list[tuple[str, bool]] = []
    after = ""
    while True:
        page = list_page(ordered, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        entries = [(key, False) for key in page.keys] + [(group, True) for group in page.prefixes]
        entries.sort(key=lambda entry: entry[0].encode())
        assert 0 < len(entries) <= limit or (not entries and not page.truncated)
        found += entries
        if not page.truncated:
            break
        assert page.next_marker == entries[-1][0]
        after = page.next_marker
    assert found == expected


@given(KEYS, st.text(alphabet="ab/", max_size=4))
def test_marker_is_exclusive(keys: list[str], after: str) -> None:
    page = list_page(sorted(keys), prefix="", delimiter="", after=after, limit=1000)
    assert page.keys == sorted(key for key in keys if key > after)


@given(KEYS, PREFIXES)
def test_end_of_prefix(keys: list[str], prefix: str) -> None:
    ordered = sorted(keys)
    start = next((i for i, key in enumerate(ordered) if key >= prefix), len(ordered))
    expected = start + sum(key.startswith(prefix) for key in ordered)
    assert end_of_prefix(ordered, prefix, start) == expected


@given(st.text(max_size=50))
def test_token_round_trip(marker: str) -> None:
    assert token_marker(marker_token(marker)) == marker


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc_of_parts_combines(first: bytes, second: bytes) -> None:
    whole = crc64.update(0, first + second)
    assert crc64.combine(crc64.update(0, first), crc64.update(0, second), len(second)) == whole
    assert crc64.update(crc64.update(0, first), second) == whole


def test_crc_check_value() -> None:
    assert crc64.update(0, b"123456789") == 11051210869376104954
