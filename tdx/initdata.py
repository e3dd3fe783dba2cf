"""The initdata document: its digest, and what the host puts of it into MRCONFIGID. No I/O.

The digest covers the delivered bytes, so nothing is decoded, reformatted or stripped before
hashing. Source: kata-containers ``initdata.rs`` (document, block image) and guest-components
``attestation-agent`` (comparison with the register).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec

from tdx.errors import InitdataError, InitdataMismatchError, InitdataUnboundError

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
# gzip makes what it cannot compress a little longer.
MAX_PACKED_BYTES: Final = MAX_DOCUMENT_BYTES + 64 * 1024
MRCONFIGID_BYTES: Final = 48
VERSION: Final = "0.1.0"
ALGORITHM_BY_SIZE: Final = {32: "sha256", 48: "sha384", 64: "sha512"}
IMAGE_MAGIC: Final = b"initdata"
IMAGE_HEAD_BYTES: Final = 16  # magic, then the length of the gzip data: u64, little-endian
GZIP_WBITS: Final = 31  # zlib's name for "gzip header and trailer"


class _Document(msgspec.Struct):
    version: str
    algorithm: Literal["sha256", "sha384", "sha512", "sm3"]
    data: Annotated[dict[str, str], msgspec.Meta(max_length=64)] = {}


@dataclass(frozen=True, slots=True)
class Initdata:
    """A digest, the algorithm it was made with, and the document unless only a digest is known."""

    algorithm: str
    digest: bytes = field(repr=False)
    document: bytes | None = field(default=None, repr=False)

    @classmethod
    def of_document(cls, text: bytes) -> Initdata:
        """Hash a document with the algorithm it names. Raises :class:`InitdataError`."""
        if len(text) > MAX_DOCUMENT_BYTES:
            raise InitdataError(f"the document is larger than {MAX_DOCUMENT_BYTES} bytes")
        try:
            document = msgspec.toml.decode(text, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InitdataError(
                f"not a document of version {VERSION}",
                hint="it needs version, algorithm (sha256, sha384, sha512 or sm3) and [data]",
            ) from error
        if document.version != VERSION:
            raise InitdataError(f"expected version {VERSION!r}, got {document.version[:32]!r}")
        return cls(document.algorithm, _hashed(document.algorithm, text), text)

    @classmethod
    def of_base64(cls, text: str) -> Initdata:
        """Take a digest as on the command line. Raises :class:`InitdataError`."""
        try:
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InitdataError("the digest is not standard base64") from error
        algorithm = ALGORITHM_BY_SIZE.get(len(value))
        if algorithm is None:
            raise InitdataError(f"expected a digest of 32, 48 or 64 bytes, got {len(value)}")
        return cls(algorithm, value)

    def as_register(self) -> bytes:
        """Return the 48 bytes that the host puts into MRCONFIGID.

        Filled up with zeros on the right, or cut: of SHA-512 the first 48 bytes count.
        """
        return self.digest[:MRCONFIGID_BYTES].ljust(MRCONFIGID_BYTES, b"\0")

    def require_register(self, got: bytes) -> None:
        """Compare with the value of MRCONFIGID.

        Raises :class:`InitdataUnboundError` if it is zero, :class:`InitdataMismatchError` if it
        is another value; both hold both values.
        """
        expected = self.as_register()
        if got == expected:
            return
        kind = InitdataMismatchError if any(got) else InitdataUnboundError
        raise kind(self.algorithm, len(self.digest), expected=expected, got=got)


def _hashed(algorithm: str, text: bytes) -> bytes:
    if algorithm != "sm3":
        return hashlib.new(algorithm, text).digest()
    # Imported late: no other algorithm needs it, and it is not in every build of OpenSSL.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes

    try:
        digest = hashes.Hash(hashes.SM3())
    except UnsupportedAlgorithm as error:
        raise InitdataError(
            "the document names sm3, which the OpenSSL of this build does not offer",
            hint="use sha256, sha384 or sha512",
        ) from error
    digest.update(text)
    return digest.finalize()


def packed_length(head: bytes) -> int | None:
    """Return the length of the gzip data behind an image's first 16 bytes, None without magic.

    Raises :class:`InitdataError` for a length of zero or beyond the limit.
    """
    if head[: len(IMAGE_MAGIC)] != IMAGE_MAGIC:
        return None
    if len(head) < IMAGE_HEAD_BYTES:
        raise InitdataError(f"image: expected {IMAGE_HEAD_BYTES} bytes of head, got {len(head)}")
    length = int.from_bytes(head[len(IMAGE_MAGIC) : IMAGE_HEAD_BYTES], "little")
    if not 0 < length <= MAX_PACKED_BYTES:
        raise InitdataError(f"image: expected 1 to {MAX_PACKED_BYTES} bytes of gzip, got {length}")
    return length


def unpack(packed: bytes) -> bytes:
    """Decompress exactly one gzip member, with bounded memory. Raises :class:`InitdataError`.

    A second member, or anything else behind the first, is refused: readers differ in whether
    they would see it.
    """
    engine = zlib.decompressobj(GZIP_WBITS)
    try:
        text = engine.decompress(packed, MAX_DOCUMENT_BYTES + 1)
    except zlib.error as error:
        raise InitdataError(f"image: not gzip data: {str(error)[:80]}") from error
    if len(text) > MAX_DOCUMENT_BYTES:
        raise InitdataError(f"image: more than {MAX_DOCUMENT_BYTES} bytes when decompressed")
    if not engine.eof:
        raise InitdataError("image: the gzip data ends too early")
    if engine.unused_data:
        raise InitdataError(f"image: {len(engine.unused_data)} bytes behind the gzip data")
    return text
