"""Which bytes a GetObject with a Range header gets, in both of OSS's two behaviours.

Without ``x-oss-range-behavior: standard`` anything not wholly inside the object is answered with
200 and the whole object; with it the answer is clipped or refused as RFC 7233 says. Source: OSS
documents "how to obtain OSS resources by segmenting HTTP range requests" and "HTTP status code
416". Three cells are not documented and are noted where they are decided.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mocktee.oss.errors import OssAnswerError

_SINGLE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``length`` bytes from ``start``; ``partial`` tells 206 from 200."""

    start: int
    length: int
    partial: bool

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def select_range(header: str | None, size: int, *, standard: bool) -> ByteRange:
    """Raises :class:`OssAnswerError` (InvalidRange) only in standard behaviour."""
    whole = ByteRange(0, size, partial=False)
    if header is None:
        return whole
    text = header.strip()
    if text.startswith("bytes=") and "," in text:
        # Older pages promise the first range, newer ones 416; standard follows the newer.
        if standard:
            raise _refused(size)
        text = text.partition(",")[0].strip()
    match = _SINGLE.fullmatch(text)
    if match is None or match.group(0) == "bytes=-":
        return whole  # undocumented for standard; taken to be as RFC 7233, which ignores it
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size, whole, standard=standard)
    start, end = int(first), int(last) if last else size - 1
    if last and end < start:
        return whole  # undocumented for standard, see above
    if start >= size:
        if standard:
            raise _refused(size)
        return whole
    if end >= size:
        if not standard:
            return whole
        end = size - 1
    return ByteRange(start, end - start + 1, partial=True)


def _suffix(length: int, size: int, whole: ByteRange, *, standard: bool) -> ByteRange:
    if length > size and not standard:
        return whole
    length = min(length, size)  # undocumented for standard; by analogy with a late end
    if length == 0:
        if standard:
            raise _refused(size)
        return whole
    return ByteRange(size - length, length, partial=True)


def _refused(size: int) -> OssAnswerError:
    return OssAnswerError(
        "InvalidRange",
        "The requested range cannot be satisfied.",
        fields={"ActualObjectSize": str(size)},
        headers={"Content-Range": f"bytes */{size}"},
    )
