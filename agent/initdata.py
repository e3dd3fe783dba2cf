"""Is the initdata document the one this TD was started with? Its digest against MRCONFIGID.

Source: kata-containers ``initdata.rs`` (document) and guest-components ``attester/src/tdx``
(comparison). The digest covers the delivered bytes, so nothing is decoded before hashing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

import msgspec

from agent.errors import InitdataError, InitdataMismatchError
from tdx.errors import MeasurementsAbsentError
from tdx.measurements import RegisterName

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
MRCONFIGID_BYTES: Final = 48
ALGORITHM_BY_SIZE: Final = {32: "sha256", 48: "sha384", 64: "sha512"}
ABSENT_HINT: Final = (
    "reading MRCONFIGID needs Linux 6.16; this build does not read it from a TDREPORT"
)


class _Document(msgspec.Struct):
    version: str
    algorithm: Literal["sha256", "sha384", "sha512"]
    data: Annotated[dict[str, str], msgspec.Meta(max_length=64)] = {}


class NamedRegisters(Protocol):
    """Read access to the registers that are fixed at TD start."""

    def read(self, name: RegisterName) -> bytes:
        """Return 48 bytes. Raises :class:`~tdx.errors.MeasurementError`."""


@dataclass(frozen=True, slots=True)
class InitdataDigest:
    """A digest and the algorithm it was made with."""

    algorithm: str
    value: bytes = field(repr=False)

    @classmethod
    def of_document(cls, text: bytes) -> InitdataDigest:
        """Hash a document with the algorithm it names. Raises :class:`InitdataError`."""
        try:
            document = msgspec.toml.decode(text, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InitdataError(
                "not a document of version 0.1.0",
                hint="it needs version, algorithm (sha256, sha384 or sha512) and [data]",
            ) from error
        if document.version != "0.1.0":
            raise InitdataError(f"expected version '0.1.0', got {document.version[:32]!r}")
        algorithm = document.algorithm
        return cls(algorithm, hashlib.new(algorithm, text).digest())

    @classmethod
    def of_base64(cls, text: str) -> InitdataDigest:
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
        """Return the 48 bytes that the host puts into MRCONFIGID: filled up, or cut."""
        return self.value[:MRCONFIGID_BYTES].ljust(MRCONFIGID_BYTES, b"\0")

    def require(self, registers: NamedRegisters) -> None:
        """Compare with this TD's MRCONFIGID. Blocks.

        Raises :class:`InitdataMismatchError`, :class:`InitdataError` when this kernel does not
        offer the register, and :class:`~tdx.errors.MeasurementError` when reading it fails.
        """
        try:
            got = registers.read("mrconfigid")
        except MeasurementsAbsentError as error:
            raise InitdataError(f"cannot be checked: {error.problem}", hint=ABSENT_HINT) from error
        if got != self.as_register():
            raise InitdataMismatchError(self.algorithm, expected=self.as_register(), got=got)


def read_initdata(path: Path) -> InitdataDigest:
    """Read and hash a document. Raises :class:`InitdataError`, also when it is not there."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        problem = f"{path} cannot be read: {os.strerror(error.errno or 0)}"
        raise InitdataError(problem, hint="check the path given with --initdata-toml") from error
    if len(text) > MAX_DOCUMENT_BYTES:
        raise InitdataError(f"{path} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return InitdataDigest.of_document(text)
