"""The forms in which evidence reaches a person, and what is in each.

A file may be a quote, a TDREPORT, an event log, the evidence JSON of the attestation agent, or the
body of a KBS attestation request (protocol 0.1.0 to 0.4.0); as bytes, hex or base64. Finds the
parts; parsing them is for ``quote.py``, ``tdreport.py`` and ``eventlog.py``. Sources: KBS protocol
0.4.0 and its predecessors, guest-components attestation-agent/attester/src/tdx.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from tdx.ccel_table import SIGNATURE as CCEL_SIGNATURE
from tdx.errors import EvidenceFormatError
from tdx.eventlog import EV_NO_ACTION
from tdx.tdreport import REPORT_BYTES, TYPE_TDX

MAX_FILE_BYTES: Final = 4 * 1024 * 1024  # a log of 1 MiB, twice in base64, and room
MAX_NESTING: Final = 4  # text in text: a request holds a string that holds base64
TEXT_LOG_START: Final = b"INIT "
QUOTE_VERSIONS: Final = {b"\3\0", b"\4\0", b"\5\0"}  # 3 is SGX: the parser says so
HINT: Final = (
    "known forms: quote, TDREPORT, event log, evidence JSON, KBS attestation body; "
    "as bytes, hex or base64"
)


class Form(enum.Enum):
    """What a file is."""

    QUOTE = "quote"
    TDREPORT = "TDREPORT"
    EVENT_LOG = "event log"
    CCEL_TABLE = "CCEL ACPI table"
    EVIDENCE = "evidence JSON"
    ATTESTATION = "KBS attestation body"


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """The parts found, each undecoded by its own parser. None: this file has none."""

    form: Form
    quote: bytes | None = field(default=None, repr=False)
    tdreport: bytes | None = field(default=None, repr=False)
    event_log: bytes | None = field(default=None, repr=False)  # TCG2 records
    ccel_table: bytes | None = field(default=None, repr=False)  # says where a log lies, holds none
    agent_log: str | None = field(default=None, repr=False)  # text form of 2024 and 2025
    init_data: str | None = field(default=None, repr=False)  # the initdata document


def recognise(content: bytes) -> EvidenceFile:
    """Return the parts of a file. Raises :class:`EvidenceFormatError`, and nothing else."""
    if len(content) > MAX_FILE_BYTES:
        raise EvidenceFormatError("file", f"larger than {MAX_FILE_BYTES} bytes", hint=HINT)
    return _recognise(content, MAX_NESTING)


def _recognise(content: bytes, nesting: int) -> EvidenceFile:
    binary = _binary(content)
    if binary is not None:
        return binary
    text = content.strip()
    if not text:
        raise EvidenceFormatError("file", "empty", hint=HINT)
    if nesting == 0:
        raise EvidenceFormatError("file", "text in text in text", hint=HINT)
    if text[:1] in b'{"':
        return _json(text, nesting)
    decoded = _decode_text(text)
    if decoded is None:
        raise EvidenceFormatError("file", "in no form known here", hint=HINT)
    return _recognise(decoded, nesting - 1)


def _binary(content: bytes) -> EvidenceFile | None:
    if len(content) == REPORT_BYTES and content[0] == TYPE_TDX:
        return EvidenceFile(Form.TDREPORT, tdreport=content)
    if content[:2] in QUOTE_VERSIONS and content[4:8] in {b"\x81\0\0\0", bytes(4)}:
        return EvidenceFile(Form.QUOTE, quote=content)
    if content.startswith(CCEL_SIGNATURE):
        return EvidenceFile(Form.CCEL_TABLE, ccel_table=content)
    if content.startswith(TEXT_LOG_START):
        return EvidenceFile(Form.EVENT_LOG, agent_log=content.decode(errors="replace"))
    if _starts_a_log(content):
        return EvidenceFile(Form.EVENT_LOG, event_log=content)
    return None


def _starts_a_log(content: bytes) -> bool:
    """A register of 0 to 4, then the first record's type, or a type and a digest count."""
    if len(content) < 16 or content[0] > 4 or any(content[1:4]):
        return False
    first_record = int.from_bytes(content[4:8], "little") == EV_NO_ACTION
    return first_record or (content[0] > 0 and 1 <= int.from_bytes(content[8:12], "little") <= 8)


def _json(text: bytes, nesting: int) -> EvidenceFile:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceFormatError("JSON", str(error)[:200], hint=HINT) from error
    if isinstance(value, str):  # attesters before 2025 returned a string that holds the JSON
        return _recognise(value.encode(), nesting - 1)
    if not isinstance(value, dict):
        raise EvidenceFormatError("JSON", "no object", hint=HINT)
    if "tee-evidence" in value:
        return _attestation(value, nesting)
    if "primary_evidence" in value:
        return _held(value["primary_evidence"], "primary_evidence", nesting)
    if "quote" in value:
        return _evidence(value)
    raise EvidenceFormatError(
        "JSON", "no member quote, primary_evidence or tee-evidence", hint=HINT
    )


def _attestation(body: Mapping[str, object], nesting: int) -> EvidenceFile:
    held = _held(body["tee-evidence"], "tee-evidence", nesting)
    init_data = body.get("init-data")
    document = init_data.get("body") if isinstance(init_data, dict) else None
    if init_data is not None and not isinstance(document, str):
        raise EvidenceFormatError("init-data", "expected an object with a text member body")
    return replace(held, form=Form.ATTESTATION, init_data=document)


def _held(value: object, name: str, nesting: int) -> EvidenceFile:
    """Evidence inside a request: an object, or (protocol 0.1.0) a string that holds one."""
    if isinstance(value, str):
        return _recognise(value.encode(), nesting - 1)
    if isinstance(value, dict) and "primary_evidence" in value:
        return _held(value["primary_evidence"], "primary_evidence", nesting)
    if isinstance(value, dict) and "quote" in value:
        return _evidence(value)
    raise EvidenceFormatError(name, "no TDX evidence (an object with a member quote)")


def _evidence(members: Mapping[str, object]) -> EvidenceFile:
    quote = _member(members, "quote")
    if not quote:
        raise EvidenceFormatError("quote", "empty")
    agent_log = members.get("aa_eventlog")
    if agent_log is not None and not isinstance(agent_log, str):
        raise EvidenceFormatError("aa_eventlog", "expected text or null")
    return EvidenceFile(
        Form.EVIDENCE, quote=quote, event_log=_member(members, "cc_eventlog"), agent_log=agent_log
    )


def _member(members: Mapping[str, object], name: str) -> bytes | None:
    value = members.get(name)
    if value is None:
        return None
    decoded = _decode_text(value.encode()) if isinstance(value, str) else None
    if decoded is None:
        raise EvidenceFormatError(name, "expected base64 text")
    return decoded


def _decode_text(text: bytes) -> bytes | None:
    """Decode hex, or base64 of either alphabet; white space and padding do not matter."""
    compact = b"".join(text.split())
    try:
        return binascii.unhexlify(compact.removeprefix(b"0x"))
    except ValueError:
        pass
    standard = compact.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)
    except ValueError:
        return None
