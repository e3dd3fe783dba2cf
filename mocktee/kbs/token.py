"""The attestation token: an EAR (draft-ietf-rats-ear) as Trustee's attestation service issues it.

The signing key is ephemeral, so a restart of the mock invalidates all tokens, as it does with an
attestation service that has no key configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from mocktee.kbs.encoding import Json, b64u_encode
from mocktee.kbs.errors import TokenRefusedError
from mocktee.kbs.jws import parse_signed, sign_claims
from mocktee.kbs.teekey import TeePublicKey
from mocktee.kbs.verifier import Verdict

PROFILE: Final = "tag:github.com,2024:confidential-containers/Trustee"
ISSUER: Final = "CoCo-Attestation-Service"
LEEWAY: Final = 60  # seconds that Trustee grants an expired token
_VERIFIER_ID: Final[dict[str, Json]] = {
    "developer": "https://confidentialcontainers.org",
    "build": "attestation-service 0.1.0",
}
_EVIDENCE: Final = "ear.veraison.annotated-evidence"


class TokenSigner:
    """Issues tokens and verifies its own."""

    def __init__(self, *, life_seconds: int, clock: Callable[[], float]) -> None:
        self.life_seconds = life_seconds
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        self._header: dict[str, Json] = {
            "typ": "JWT",
            "alg": "ES256",
            "jwk": {
                "kty": "EC",
                "crv": "P-256",
                "alg": "ES256",
                "x": b64u_encode(numbers.x.to_bytes(32, "big")),
                "y": b64u_encode(numbers.y.to_bytes(32, "big")),
            },
        }

    def issue(
        self, verdict: Verdict, trust_vector: Mapping[str, Json], *, expired: bool = False
    ) -> str:
        """Return a token for accepted evidence; ``expired`` dates it back beyond the leeway."""
        now = int(self._clock())
        if expired:
            now -= self.life_seconds + 2 * LEEWAY
        submodule: dict[str, Json] = {
            "ear.status": trust_status(trust_vector),
            "ear.trustworthiness-vector": dict(trust_vector),
            "ear.appraisal-policy-id": "default",
            _EVIDENCE: annotated_evidence(verdict),
        }
        claims: dict[str, Json] = {
            "eat_profile": PROFILE,
            "iat": now,
            "exp": now + self.life_seconds,
            "iss": ISSUER,
            "ear.verifier-id": _VERIFIER_ID,
            "submods": {"cpu0": submodule},
        }
        return sign_claims(self._header, claims, self._key)

    def verify(self, token: str) -> dict[str, Json]:
        """Return the claims of a token of this signer. Raises :class:`TokenRefusedError`."""
        try:
            parsed = parse_signed(token)
            parsed.verify(self._key.public_key())
        except ValueError as error:
            raise TokenRefusedError(str(error)) from error
        if parsed.header.get("jwk") != self._header["jwk"]:
            raise TokenRefusedError("header jwk is not the key of this signer")
        expiry = parsed.claims.get("exp")
        if not isinstance(expiry, int):
            raise TokenRefusedError("claim exp is missing")
        late = int(self._clock()) - expiry
        if late > LEEWAY:
            raise TokenRefusedError(f"expired {late} seconds ago, {LEEWAY} are tolerated")
        return parsed.claims


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


def tee_key_of(claims: Mapping[str, Json]) -> TeePublicKey:
    """Return the TEE key of verified claims. Raises :class:`TokenRefusedError`."""
    value: Json = dict(claims)
    for name in ("submods", "cpu0", _EVIDENCE, "runtime_data_claims", "tee-pubkey"):
        value = value.get(name) if isinstance(value, dict) else None
    try:
        return TeePublicKey.parse(value)
    except ValueError as error:
        raise TokenRefusedError(f"no usable TEE key in the token: {error}") from error
