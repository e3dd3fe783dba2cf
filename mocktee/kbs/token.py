"""The attestation token: an EAR (draft-ietf-rats-ear) as Trustee's attestation service issues it.

Without an identity the signing key is ephemeral, so a restart of the mock invalidates all tokens,
as it does with an attestation service that has no key configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from mocktee.kbs.encoding import Json, b64u_encode
from mocktee.kbs.jws import VerifyingKey, sign_claims
from mocktee.kbs.signer import SignerIdentity
from mocktee.kbs.software import DeviceVerdict
from mocktee.kbs.verifier import Verdict

PROFILE: Final = "tag:github.com,2024:confidential-containers/Trustee"
ISSUER: Final = "CoCo-Attestation-Service"
BACKDATE: Final = 120  # seconds beyond its life that an expired token is dated back
_VERIFIER_ID: Final[dict[str, Json]] = {
    "developer": "https://confidentialcontainers.org",
    "build": "attestation-service 0.1.0",
}
_EVIDENCE: Final = "ear.veraison.annotated-evidence"


class TokenIssuer(Protocol):
    """Whatever issues the tokens of a KBS."""

    @property
    def public_key(self) -> VerifyingKey:
        """The key that its tokens verify under."""

    def issue(
        self, verdict: Verdict, trust_vector: Mapping[str, Json], *, expired: bool = False
    ) -> str:
        """Return a token for accepted evidence; ``expired`` dates it back beyond the leeway."""


class TokenSigner:
    """Issues EAR tokens."""

    def __init__(
        self,
        *,
        life_seconds: int,
        clock: Callable[[], float],
        submodule: str = "cpu0",
        full_claims: bool = True,
        identity: SignerIdentity | None = None,
    ) -> None:
        self.life_seconds = life_seconds
        self._clock = clock
        self._submodule = submodule
        self._full_claims = full_claims
        self._key = ec.generate_private_key(ec.SECP256R1()) if identity is None else identity.key
        self.public_key = self._key.public_key()
        numbers = self.public_key.public_numbers()
        jwk: dict[str, Json] = {
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "x": b64u_encode(numbers.x.to_bytes(32, "big")),
            "y": b64u_encode(numbers.y.to_bytes(32, "big")),
        }
        if identity is not None:
            jwk["x5c"] = identity.x5c()
        self._header: dict[str, Json] = {"typ": "JWT", "alg": "ES256", "jwk": jwk}

    def issue(
        self, verdict: Verdict, trust_vector: Mapping[str, Json], *, expired: bool = False
    ) -> str:
        """Return a token for accepted evidence; ``expired`` dates it back beyond the leeway."""
        now = int(self._clock())
        if expired:
            now -= self.life_seconds + BACKDATE
        evidence = annotated_evidence(verdict)
        if self._full_claims:
            primary = _submodule(trust_vector, evidence)
            primary["ear.trustee.identifiers"] = {"validated": {}}
        else:  # v0.11 to v0.13: no zeros in the vector, and init-data even where there is none
            set_claims = {name: value for name, value in trust_vector.items() if value}
            nothing: dict[str, Json] = {"init_data": "", "init_data_claims": None}
            primary = _submodule(set_claims, nothing | evidence)
        submodules: dict[str, Json] = {self._submodule: primary}
        for index, device in enumerate(verdict.devices):
            submodules[f"{device.device_class}{index}"] = _device_submodule(device)
        claims: dict[str, Json] = {
            "eat_profile": PROFILE,
            "iat": now,
            "exp": now + self.life_seconds,
            "ear.verifier-id": _VERIFIER_ID,
            "submods": submodules,
        }
        if self._full_claims:
            claims["iss"] = ISSUER
        return sign_claims(self._header, claims, self._key)


def _submodule(trust_vector: Mapping[str, Json], evidence: dict[str, Json]) -> dict[str, Json]:
    return {
        "ear.status": trust_status(trust_vector),
        "ear.trustworthiness-vector": dict(trust_vector),
        "ear.appraisal-policy-id": "default",
        _EVIDENCE: evidence,
    }


def _device_submodule(device: DeviceVerdict) -> dict[str, Json]:
    evidence: dict[str, Json] = {
        device.tee: device.claims,
        "report_data": device.report_data,
        "runtime_data_claims": device.runtime_data,
    }
    return _submodule(device.trust_vector, evidence)


def annotated_evidence(verdict: Verdict) -> dict[str, Json]:
    """Return the claims about one submodule's evidence; pairs appear only with their digest."""
    evidence: dict[str, Json] = {
        verdict.tee: verdict.claims,
        "report_data": verdict.report_data,
        "runtime_data_claims": verdict.runtime_data,
    }
    if verdict.init_data is not None:
        evidence["init_data"] = verdict.init_data
        evidence["init_data_claims"] = verdict.init_data_claims
    return evidence


def trust_status(trust_vector: Mapping[str, Json]) -> str:
    """Return the tier of the worst trust claim (draft-ietf-rats-ar4si, section 2.3)."""
    worst = max((value for value in trust_vector.values() if isinstance(value, int)), default=0)
    if worst >= 96:
        return "contraindicated"
    if worst >= 32:
        return "warning"
    return "affirming" if worst >= 2 else "none"
