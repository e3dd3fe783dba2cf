"""Is the initdata document the one this TD was started with? Finding it, and the comparison.

What the host delivers is data; what it bound at TD start is MRCONFIGID, which no one can change
afterwards and every quote shows. Source: guest-components ``attester/src/tdx``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

from agent.initdata_device import DEVICE_DIRECTORY, read_initdata_device
from tdx.errors import InitdataError, InitdataMissingError, MeasurementsAbsentError
from tdx.initdata import MAX_DOCUMENT_BYTES, Initdata
from tdx.measurements import RegisterName

FROM_DEVICE: Final = "device"  # the configured value that means the block device
ABSENT_HINT: Final = "reading MRCONFIGID needs Linux 6.16, or a TDX guest device for a TDREPORT"


class NamedRegisters(Protocol):
    """Read access to the registers that are fixed at TD start."""

    def read(self, name: RegisterName) -> bytes:
        """Return 48 bytes. Raises :class:`~tdx.errors.TdxError`."""


def read_initdata(path: Path) -> Initdata:
    """Read and hash a document. Raises :class:`InitdataError`, also when it is not there."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        problem = f"{path} cannot be read: {os.strerror(error.errno or 0)}"
        hint = "check the path given with --initdata-toml or [tee] initdata"
        raise InitdataError(problem, hint=hint) from error
    if len(text) > MAX_DOCUMENT_BYTES:
        raise InitdataError(f"{path} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return Initdata.of_document(text)


def configured_initdata(setting: str, directory: Path = DEVICE_DIRECTORY) -> Initdata | None:
    """Return the document that ``[tee] initdata`` names: ``device``, or a path. Blocks.

    None only if no block device carries one. Raises :class:`InitdataError`.
    """
    if setting == FROM_DEVICE:
        text = read_initdata_device(directory)
        return None if text is None else Initdata.of_document(text)
    return read_initdata(Path(setting))


def require_bound(initdata: Initdata | None, registers: NamedRegisters) -> None:
    """Compare what was delivered with this TD's MRCONFIGID. Blocks.

    Without a document the register must be zero: otherwise the host bound one and withholds it
    (:class:`InitdataMissingError`). Raises :class:`~tdx.errors.InitdataMismatchError`,
    :class:`InitdataError` when there is no way to read the register, and
    :class:`~tdx.errors.TdxError` when reading it fails.
    """
    try:
        got = registers.read("mrconfigid")
    except MeasurementsAbsentError as error:
        raise InitdataError(f"cannot be checked: {error.problem}", hint=ABSENT_HINT) from error
    if initdata is not None:
        initdata.require_register(got)
    elif any(got):
        raise InitdataMissingError(got)
