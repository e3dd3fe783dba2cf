"""From the evidence of one handshake to a verdict: parse, authenticate, decide, in that order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mocktee.kbs.authenticate import PlatformStatus, QuoteAuthenticator
from mocktee.kbs.claims import SAMPLE_CLAIMS, tdx_claims
from mocktee.kbs.decide import (
    judge_binding,
    judge_debug,
    judge_event_log,
    judge_init_data,
    judge_reference_values,
)
from mocktee.kbs.encoding import Json, b64_decode, b64_encode
from mocktee.kbs.errors import EvidenceRefusedError
from mocktee.kbs.eventlog import LoggedEvent, parse_event_log
from mocktee.kbs.initdata import InitDataDigest, digest_init_data
from mocktee.kbs.messages import Attestation
from mocktee.kbs.quote import Quote, read_quote
from mocktee.kbs.references import ReferenceValues
from mocktee.kbs.software import (
    SAMPLE,
    DeviceVerdict,
    verify_devices,
    verify_sample,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Accepted evidence: what a token says about it."""

    tee: str
    claims: dict[str, Json]
    report_data: str
    init_data: str | None
    init_data_claims: dict[str, Json] | None
    runtime_data: dict[str, Json]
    devices: tuple[DeviceVerdict, ...] = ()


@dataclass(frozen=True, slots=True)
class _TdxEvidence:
    quote: Quote
    events: list[LoggedEvent] | None


class Verifier:
    """Judges evidence of the TEEs ``tdx`` and ``sample``, and of the device ``sampledevice``."""

    def __init__(
        self,
        authenticator: QuoteAuthenticator,
        references: ReferenceValues,
        *,
        sample_claims: Sequence[str] = SAMPLE_CLAIMS,
    ) -> None:
        self._authenticator = authenticator
        self._references = references
        self._sample_claims = sample_claims

    def verify(self, tee: str, attestation: Attestation) -> Verdict:
        """Return the verdict, or raise :class:`EvidenceRefusedError` with the reason."""
        init_data = attestation.init_data
        digest = None if init_data is None else digest_init_data(init_data)
        match tee:
            case "tdx":
                verdict = self._verify_tdx(attestation, digest)
            case "sample":
                verdict = _verify_sample(attestation, digest, self._sample_claims)
            case _:
                raise EvidenceRefusedError("this verifier knows the TEEs tdx and sample only")
        return replace(verdict, devices=verify_devices(attestation))

    def _verify_tdx(self, attestation: Attestation, init_data: InitDataDigest | None) -> Verdict:
        evidence = _parse_tdx(attestation.primary_evidence)
        judge_debug(evidence.quote)  # a refusal needs no proof of who asks for it
        platform = self._authenticator.authenticate(evidence.quote)
        self._decide_tdx(evidence, platform, attestation, init_data)
        body = evidence.quote.body
        return Verdict(
            tee="tdx",
            claims=tdx_claims(evidence.quote, platform, evidence.events),
            report_data=body["report_data"].hex(),
            init_data=body["mr_config_id"].hex(),
            init_data_claims=None if init_data is None else init_data.claims,
            runtime_data=attestation.runtime_data(),
        )

    def _decide_tdx(
        self,
        evidence: _TdxEvidence,
        platform: PlatformStatus,
        attestation: Attestation,
        init_data: InitDataDigest | None,
    ) -> None:
        judge_binding(evidence.quote, attestation)
        judge_init_data(evidence.quote, init_data)
        judge_event_log(evidence.quote, evidence.events)
        judge_reference_values(evidence.quote, platform, self._references)


def carries_quote(evidence: Json) -> bool:
    """Return whether evidence has a quote in it, however wrong it may be; for counting."""
    return isinstance(evidence, dict) and bool(evidence.get("quote"))


def _parse_tdx(evidence: Json) -> _TdxEvidence:
    if not isinstance(evidence, dict):
        raise EvidenceRefusedError("evidence: primary_evidence of TEE tdx is not an object")
    quote = _binary(evidence, "quote")
    if not quote:
        raise EvidenceRefusedError("evidence: member quote is missing or empty")
    log = _binary(evidence, "cc_eventlog")
    # Absent, null and empty all mean that there is no log, as in Trustee.
    return _TdxEvidence(read_quote(quote), parse_event_log(log) if log else None)


def _binary(evidence: dict[str, Json], name: str) -> bytes:
    text = evidence.get(name)
    if text is None:
        return b""
    if not isinstance(text, str):
        raise EvidenceRefusedError(f"evidence: member {name} is not a string")
    try:
        return b64_decode(text)
    except ValueError as error:
        raise EvidenceRefusedError(f"evidence: member {name} is {error}") from error


def _verify_sample(
    attestation: Attestation, init_data: InitDataDigest | None, claim_names: Sequence[str]
) -> Verdict:
    claims, report_data = verify_sample(attestation, claim_names)
    return Verdict(
        tee=SAMPLE,
        claims=claims,
        report_data=report_data,
        init_data=None if init_data is None else b64_encode(init_data.digest),
        init_data_claims=None if init_data is None else init_data.claims,
        runtime_data=attestation.runtime_data(),
    )
