"""A bundle, read: what a refusal is explained from, as values. Parsing only, nothing is judged.

A part that cannot be read does not end the explanation: it becomes a finding of its own, and is
treated as not there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from explain.answer import Answer, parse_answer
from explain.attest_request import AttestRequest, parse_attest_request
from explain.binding import MAX_KNOWN, Jwk, Known
from explain.bundle import Bundle, Part
from explain.errors import BundleError, ExplainError
from explain.finding import Code, Finding, Severity
from explain.part_json import decode_json, json_object
from explain.reference_values import ReferenceValues, parse_reference_values
from explain.token import TokenClaims, parse_token_claims
from tdx.aael import parse_text_log
from tdx.ccel import parse_ccel
from tdx.errors import EventLogError, QuoteFormatError, TdxError
from tdx.log_history import LogHistory, log_history
from tdx.quote import Quote, parse_quote
from tdx.verify import Collateral, parse_collateral, parse_root

MANIFEST_VERSION: Final = 1
SELECTED: Final = "selected-hash-algorithm"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts about the guest at the time. Times are unix seconds; None if not known."""

    guest_clock: float | None = None
    kbs_url: str = ""
    tee: str = ""

    def encode(self) -> bytes:
        """Return the part ``bundle.json``."""
        members = {"version": MANIFEST_VERSION, "guest_clock_unix": self.guest_clock}
        return msgspec.json.encode({**members, "kbs_url": self.kbs_url, "tee": self.tee})


@dataclass(frozen=True, slots=True)
class Case:
    """None, or empty, is what the bundle does not have."""

    manifest: Manifest = field(default_factory=Manifest)
    request: AttestRequest | None = None
    quote: Quote | None = None
    log: LogHistory | None = None
    text_value: bytes | None = None  # RTMR3 after the agent's log in text form
    known: Known = field(default_factory=Known)
    answer: Answer | None = None
    token: TokenClaims | None = None
    initdata: bytes | None = None
    references: ReferenceValues | None = None
    reference_log: LogHistory | None = None
    collateral: Collateral | None = None
    trusted_root: bytes | None = None  # DER
    resource_policy: str | None = None
    unusable: tuple[Finding, ...] = ()


class _Reader:
    """Reads parts and keeps findings about those that cannot be read."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.unusable: list[Finding] = []

    def read(self, part: Part, parse: Callable[[bytes], T]) -> T | None:
        data = self.bundle.get(part)
        return None if data is None else self.parsed(part, data, parse)

    def parsed(self, name: str, data: bytes, parse: Callable[[bytes], T]) -> T | None:
        try:
            return parse(data)
        except (ExplainError, TdxError) as error:
            self.unusable.append(_unusable(name, error))
            return None


def read_case(bundle: Bundle) -> Case:
    """Read every part of a bundle. Raises nothing on any bytes."""
    reader = _Reader(bundle)
    request = reader.read(Part.ATTEST_REQUEST, parse_attest_request)
    evidence = reader.read(Part.EVIDENCE, lambda data: json_object(data, Part.EVIDENCE))
    members: Mapping[str, object] = request.evidence if request is not None else evidence or {}
    quote_bytes = _binary(reader, members, "quote")
    log_bytes = _binary(reader, members, "cc_eventlog")
    initdata = bundle.get(Part.INITDATA)
    if request is not None and request.initdata is not None:
        initdata = request.initdata  # what the KBS judged
    policy = bundle.get(Part.RESOURCE_POLICY)
    log = reader.parsed("cc_eventlog", log_bytes, _sent_log) if log_bytes else None
    text = members.get("aa_eventlog")
    return Case(
        manifest=reader.read(Part.MANIFEST, _manifest) or Manifest(),
        request=request,
        quote=reader.parsed("quote", quote_bytes, parse_quote) if quote_bytes else None,
        log=log,
        text_value=_text_value(text) if isinstance(text, str) else None,
        known=_known(reader),
        answer=reader.read(Part.ANSWER, parse_answer),
        token=reader.read(Part.TOKEN_CLAIMS, parse_token_claims),
        initdata=initdata,
        references=reader.read(Part.REFERENCE_VALUES, parse_reference_values),
        reference_log=reader.read(Part.REFERENCE_LOG, log_history),
        collateral=reader.read(Part.COLLATERAL, parse_collateral),
        trusted_root=reader.read(Part.ROOT, parse_root),
        resource_policy=None if policy is None else policy.decode("utf-8", "replace"),
        unusable=tuple(reader.unusable),
    )


def _sent_log(data: bytes) -> LogHistory:
    """The log in evidence; a KBS wants its first record, which other logs may lack."""
    parse_ccel(data)
    return log_history(data)


def _text_value(text: str) -> bytes | None:
    """RTMR3 after the text log; None if it does not parse, for a KBS of today ignores it."""
    try:
        return parse_text_log(text).value
    except EventLogError:
        return None


def _binary(reader: _Reader, members: Mapping[str, object], name: str) -> bytes | None:
    """A base64 member of the evidence; absent, null and empty all mean none, as in Trustee."""
    text = members.get(name)
    if text is None or text == "":
        return None

    def decode(data: bytes) -> bytes:
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BundleError(name, "not standard base64") from error

    return reader.parsed(name, text.encode() if isinstance(text, str) else b"?", decode)


def _manifest(data: bytes) -> Manifest:
    members = json_object(data, Part.MANIFEST)
    if members.get("version") != MANIFEST_VERSION:
        raise BundleError(Part.MANIFEST, f"expected version {MANIFEST_VERSION}")
    clock, url, tee = (members.get(name) for name in ("guest_clock_unix", "kbs_url", "tee"))
    known = isinstance(clock, int | float) and 0 <= clock < 2**40
    return Manifest(
        float(clock) if known and isinstance(clock, int | float) else None,
        url[:300] if isinstance(url, str) else "",
        tee[:32] if isinstance(tee, str) else "",
    )


def _known(reader: _Reader) -> Known:
    challenge = reader.read(Part.CHALLENGE, lambda data: json_object(data, Part.CHALLENGE)) or {}
    nonce, extra = challenge.get("nonce"), challenge.get("extra-params")
    selected = extra.get(SELECTED) if isinstance(extra, dict) else None
    nonces, keys = reader.read(Part.HANDSHAKES, _handshakes) or ((), ())
    return Known(
        nonce if isinstance(nonce, str) else "",
        selected.lower() if isinstance(selected, str) and selected.lower() in _HASHES else "",
        nonces,
        keys,
    )


_HASHES: Final = frozenset({"sha256", "sha384", "sha512", "sm3"})


def _handshakes(data: bytes) -> tuple[tuple[str, ...], tuple[Jwk, ...]]:
    """A JSON list of objects with ``nonce``, ``tee-pubkey`` or both, of other handshakes."""
    items = decode_json(data, Part.HANDSHAKES)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BundleError(Part.HANDSHAKES, "expected a list of objects")
    nonces = (item.get("nonce") for item in items[:MAX_KNOWN])
    keys = (item.get("tee-pubkey") for item in items[:MAX_KNOWN])
    return (
        tuple(nonce for nonce in nonces if isinstance(nonce, str)),
        tuple(key for key in keys if isinstance(key, dict)),
    )


def _unusable(name: str, error: ExplainError | TdxError) -> Finding:
    if isinstance(error, QuoteFormatError):
        return Finding(
            Code.QUOTE_MALFORMED,
            Severity.REFUSAL,
            "the quote is not a TDX quote of a known form",
            "take another quote; if it happens again, look at the host's quote generation service",
            error.expected,
            f"{error.field} at byte {error.offset}: {error.got}",
        )
    if isinstance(error, EventLogError) and name == "cc_eventlog":
        return Finding(
            Code.EVENT_LOG_MALFORMED,
            Severity.REFUSAL,
            "the event log does not parse, and a KBS refuses evidence with such a log",
            "look for what cuts or rewrites the log; cguest eventlog show tells how far it is good",
            error.expected,
            f"{error.field} at byte {error.offset}: {error.got}",
        )
    return Finding(
        Code.PART_UNUSABLE,
        Severity.WARNING,
        f"{name} cannot be read and is left out: {error.problem}",
        error.hint or "take the part again",
    )
