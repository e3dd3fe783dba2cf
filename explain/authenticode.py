"""The hash of an EFI image as firmware measures it: a PE file without what a signature changes.

Source: Microsoft "Windows Authenticode Portable Executable Signature Format", as EDK2
``DxeTpmMeasureBootLib`` computes it, with SHA-384.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from explain.errors import BootMeasurementError

PE32: Final = 0x10B
PE32_PLUS: Final = 0x20B
CHECKSUM_OFFSET: Final = 64  # in the optional header, of both kinds
DIRECTORIES_OFFSET: Final = {PE32: 96, PE32_PLUS: 112}
CERTIFICATE_TABLE: Final = 4  # index of the data directory entry of 8 bytes
SECTION_BYTES: Final = 40
MAX_SECTIONS: Final = 96  # the Windows loader's limit; kernels have fewer than ten
WHAT: Final = "the Authenticode hash of the kernel"
HINT: Final = "give the image the firmware starts: an EFI stub kernel (bzImage) or a unified image"


def authenticode_sha384(image: bytes) -> bytes:
    """Return the digest. Raises :class:`~explain.errors.BootMeasurementError`."""
    try:
        return _hash(image)
    except struct.error as error:
        raise BootMeasurementError(WHAT, "the PE headers end too early", hint=HINT) from error


def _hash(image: bytes) -> bytes:
    if image[:2] != b"MZ":
        raise BootMeasurementError(WHAT, "not a PE image (no MZ signature)", hint=HINT)
    (pe,) = struct.unpack_from("<I", image, 60)
    if image[pe : pe + 4] != b"PE\0\0":
        raise BootMeasurementError(WHAT, "not a PE image (no PE signature)", hint=HINT)
    sections, optional_size = struct.unpack_from("<2xH12xH", image, pe + 4)
    optional = pe + 24
    (magic,) = struct.unpack_from("<H", image, optional)
    if magic not in DIRECTORIES_OFFSET or sections > MAX_SECTIONS:
        raise BootMeasurementError(WHAT, f"optional header {magic:#x} is unknown", hint=HINT)
    (header_end,) = struct.unpack_from("<I", image, optional + 60)
    checksum = optional + CHECKSUM_OFFSET
    entry = optional + DIRECTORIES_OFFSET[magic] + 8 * CERTIFICATE_TABLE
    _, certificate_bytes = struct.unpack_from("<II", image, entry)

    digest = hashlib.sha384(image[:checksum])
    digest.update(image[checksum + 4 : entry])
    digest.update(image[entry + 8 : header_end])
    hashed = header_end
    for start, size in _raw_sections(image, optional + optional_size, sections):
        digest.update(image[start : start + size])
        hashed += size
    # What follows the sections counts too, but for the signatures at the end.
    digest.update(image[hashed : max(hashed, len(image) - certificate_bytes)])
    return digest.digest()


def _raw_sections(image: bytes, table: int, count: int) -> list[tuple[int, int]]:
    """Start and size of each section in the file, in file order; empty ones left out."""
    found = []
    for index in range(count):
        size, start = struct.unpack_from("<II", image, table + index * SECTION_BYTES + 16)
        if size:
            if start + size > len(image):
                raise BootMeasurementError(WHAT, "a section runs over the file's end", hint=HINT)
            found.append((start, size))
    return sorted(found)
