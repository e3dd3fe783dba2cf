"""One runtime event: what may be in it, its record, and the register it goes to. No I/O.

Source: trustee kbs/docs/confidential-containers-eventlog.md (AAEL, TCG2 form).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from agent.errors import MeasuredEventError
from tdx.eventlog import EV_EVENT_TAG, SHA384, Digest, Event

TAG_AAEL: Final = 0x4141454C  # reads "LEAA" in the file
MAX_NAME_CHARACTERS: Final = 1024  # of domain and operation
MAX_CONTENT_BYTES: Final = 64 * 1024
CC_REGISTERS: Final = {
    1: 1,
    7: 1,
    **dict.fromkeys(range(2, 7), 2),
    **dict.fromkeys(range(8, 16), 3),
}
OTHER_CC_REGISTER: Final = 4  # every other PCR number, 0 and 17 included


def cc_register_of(pcr: int) -> int:
    """Return the log register (RTMR plus 1) for a PCR number. UEFI 2.11 table 38.4.1."""
    return CC_REGISTERS.get(pcr, OTHER_CC_REGISTER)


@dataclass(frozen=True, slots=True)
class MeasuredEvent:
    """An event as ``domain operation content``. Made by :meth:`checked` only."""

    domain: str
    operation: str
    content: str

    @classmethod
    def checked(cls, domain: str, operation: str, content: str) -> MeasuredEvent:
        """Raises :class:`MeasuredEventError`.

        Domain and operation are printable without white space, or the three parts could not be
        told apart again; content has no line feed, as in the older line-based form of this log.
        """
        for field, text in (("domain", domain), ("operation", operation)):
            _check_name(field, text)
        if "\n" in content:
            raise MeasuredEventError("content", "no line feed", got="one")
        size = len(content.encode())
        if size > MAX_CONTENT_BYTES:
            raise MeasuredEventError("content", f"<= {MAX_CONTENT_BYTES} bytes", got=str(size))
        return cls(domain, operation, content)

    def record(self, register: int) -> Event:
        """Return the log record for a register. Its digest covers the tag header as well."""
        text = f"{self.domain} {self.operation} {self.content}".encode()
        data = struct.pack("<II", TAG_AAEL, len(text)) + text
        digest = Digest(SHA384, hashlib.sha384(data).digest())
        return Event(register, EV_EVENT_TAG, (digest,), data)


def _check_name(field: str, text: str) -> None:
    if not 0 < len(text) <= MAX_NAME_CHARACTERS:
        expected = f"1 to {MAX_NAME_CHARACTERS} characters"
        raise MeasuredEventError(field, expected, got=str(len(text)))
    # str.isprintable counts the ordinary space as printable.
    if not text.isprintable() or any(character.isspace() for character in text):
        raise MeasuredEventError(field, "printable characters without white space", got="others")
