"""The TEEs that anybody can imitate: ``sample`` and its device ``sampledevice``.

Nothing is signed. Evidence is accepted when its report data is the expected digest, all bytes and
without padding (trustee deps/verifier/src/sample, deps/verifier/src/sample_device).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mocktee.kbs.claims import sample_claims
from mocktee.kbs.decide import expected_device_digest, expected_digest
from mocktee.kbs.encoding import Json, b64_encode, parse_object
from mocktee.kbs.errors import EvidenceRefusedError
from mocktee.kbs.messages import Attestation

SAMPLE: Final = "sample"
SAMPLE_DEVICE: Final = "sampledevice"


@dataclass(frozen=True, slots=True)
class DeviceVerdict:
    """Accepted evidence of one device; its trust is appraised later."""

    tee: str
    device_class: str
    claims: dict[str, Json]
    report_data: str
    runtime_data: dict[str, Json]
    trust_vector: dict[str, Json] = field(default_factory=dict)


def verify_sample(
    attestation: Attestation, claim_names: Sequence[str]
) -> tuple[dict[str, Json], str]:
    """Return claims and report data of TEE ``sample``. Raises :class:`EvidenceRefusedError`."""
    svn, report_data = _judge(attestation.primary_evidence, SAMPLE, expected_digest(attestation))
    return sample_claims(svn, claim_names), report_data


def verify_devices(attestation: Attestation) -> tuple[DeviceVerdict, ...]:
    """Return verdicts on additional evidence, a JSON text. Raises :class:`EvidenceRefusedError`."""
    if not attestation.additional_evidence:
        return ()
    try:
        devices = parse_object(attestation.additional_evidence.encode())
    except ValueError as error:
        raise EvidenceRefusedError(f"additional evidence: {error}") from error
    return tuple(_verify_device(tee, value, attestation) for tee, value in devices.items())


def _verify_device(tee: str, evidence: Json, attestation: Attestation) -> DeviceVerdict:
    if tee != SAMPLE_DEVICE:
        raise EvidenceRefusedError(
            f"additional evidence: no verifier for device {tee[:32]!r}, only for {SAMPLE_DEVICE}"
        )
    svn, report_data = _judge(evidence, tee, expected_device_digest(attestation))
    return DeviceVerdict(tee, "gpu", {"svn": svn}, report_data, attestation.device_data())


def _judge(evidence: Json, tee: str, expected: bytes) -> tuple[str, str]:
    svn = evidence.get("svn") if isinstance(evidence, dict) else None
    if not isinstance(evidence, dict) or not isinstance(svn, str):
        raise EvidenceRefusedError(f"evidence: member svn of TEE {tee} is missing")
    report_data = b64_encode(expected)
    if evidence.get("report_data", "") != report_data:
        raise EvidenceRefusedError(f"report data of TEE {tee} does not bind nonce and TEE key")
    return svn, report_data
