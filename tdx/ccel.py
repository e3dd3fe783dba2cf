"""The boot event log that ACPI describes (CCEL): reading it and cutting off its padding.

The file shows memory that guest kernel code can write. It proves nothing until its replay equals
the registers of an authenticated quote. Source: UEFI 2.11 section 38.4, Linux
Documentation/ABI/testing/sysfs-firmware-acpi.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Final

from tdx.errors import BootLogError, EventLogError, errno_text
from tdx.eventlog import END_ONES, MAX_LOG_BYTES, SHA384, EventLog, parse_event_log

CCEL_PATH: Final = Path("/sys/firmware/acpi/tables/data/CCEL")
SM3: Final = 0x0012
# What guest-components puts in front of its own records when there is no boot log: register 0,
# EV_NO_ACTION, and the two digest algorithms that CC technologies use. 69 bytes.
NO_BOOT_LOG_HEADER: Final = struct.pack(
    "<II20xI24xIHHHHB", 0, 3, 37, 2, SHA384, 48, SM3, 32, 0
)  # fmt: skip


def read_ccel(path: Path = CCEL_PATH) -> bytes | None:
    """Return the log area, padding included, or None if the firmware gave none. Blocks.

    Only "no such file" means none: evidence must not lose its log to a failing read. Raises
    :class:`BootLogError` for any other errno, and above 1 MiB.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = "run as root" if error.errno == errno.EACCES else ""
        raise BootLogError(str(path), errno_text(error.errno or 0), hint=hint) from error
    content = bytearray()
    try:
        while chunk := os.read(fd, MAX_LOG_BYTES + 1 - len(content)):
            content += chunk
            if len(content) > MAX_LOG_BYTES:
                raise BootLogError(str(path), f"larger than {MAX_LOG_BYTES} bytes")
    except OSError as error:
        raise BootLogError(str(path), errno_text(error.errno or 0)) from error
    finally:
        os.close(fd)
    return bytes(content)


def joined_log(boot: bytes | None, records: bytes | None) -> bytes | None:
    """Return boot log and further records as one log with an end mark, or None for neither.

    ``boot`` is the log area; it is cut at its end mark. Raises :class:`EventLogError` if it does
    not parse.
    """
    if boot is None and records is None:
        return None
    head = NO_BOOT_LOG_HEADER if boot is None else cut_ccel(boot)
    return head + (records or b"") + END_ONES


def cut_ccel(data: bytes) -> bytes:
    """Return the log without end mark and padding. Raises :class:`EventLogError`."""
    return data[: parse_ccel(data).used]


def parse_ccel(data: bytes) -> EventLog:
    """As :func:`~tdx.eventlog.parse_event_log`, for a log area that holds at least one record."""
    if not data:
        raise EventLogError("log", 0, expected="a log area", got="an empty file")
    return parse_event_log(data)
