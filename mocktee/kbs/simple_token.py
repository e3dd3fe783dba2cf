"""The simple attestation token of attestation services up to v0.15: RS384, a flat list of claims.

Three layouts exist (trustee src/token/simple.rs at v0.8.0, v0.9.0, v0.12.0): the TEE key on top,
the signer's key among the claims, the signer's key in the header.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from mocktee.kbs.encoding import Json, b64u_encode, compact_json
from mocktee.kbs.era import TokenForm
from mocktee.kbs.jws import sign_claims
from mocktee.kbs.token import BACKDATE, ISSUER
from mocktee.kbs.verifier import Verdict

ALGORITHM: Final = "RS384"
_BITS: Final = 2048
_POLICY: Final = "default"


class SimpleTokenSigner:
    """Issues simple tokens with an ephemeral RSA key."""

    def __init__(self, form: TokenForm, *, life_seconds: int, clock: Callable[[], float]) -> None:
        self.life_seconds = life_seconds
        self._form = form
        self._clock = clock
        self._key = rsa.generate_private_key(65537, _BITS)
        self.public_key = self._key.public_key()
        numbers = self.public_key.public_numbers()
        self._jwk: dict[str, Json] = {
            "kty": "RSA",
            "alg": ALGORITHM,
            "n": b64u_encode(numbers.n.to_bytes(_BITS // 8, "big")),
            "e": "AQAB",
        }

    def issue(
        self, verdict: Verdict, trust_vector: Mapping[str, Json], *, expired: bool = False
    ) -> str:
        """Return a token for accepted evidence; this form has no trust vector."""
        del trust_vector
        now = int(self._clock()) - (self.life_seconds + BACKDATE if expired else 0)
        header: dict[str, Json] = {"typ": "JWT", "alg": ALGORITHM}
        claims: dict[str, Json] = {"iss": ISSUER, "nbf": now, "exp": now + self.life_seconds}
        if self._form is TokenForm.SIMPLE_HEADER:
            header["jwk"] = self._jwk
        else:
            claims["jwk"] = self._jwk
        status = flat_claims(verdict)
        if self._form is TokenForm.SIMPLE_FLAT:
            claims |= {
                "tee-pubkey": verdict.runtime_data["tee-pubkey"],
                "tcb-status": status,
                "evaluation-report": compact_json({"allow": True}).decode(),
            }
        else:
            claims |= {"iat": now, "jti": secrets.token_urlsafe(8)[:10], **_reports(verdict)}
            as_text = self._form is TokenForm.SIMPLE_HEADER
            claims["tcb-status"] = compact_json(status).decode() if as_text else status
        return sign_claims(header, claims, self._key)


def flat_claims(verdict: Verdict) -> dict[str, Json]:
    """Return the evidence's claims as one map: ``tdx.quote.body.mr_td`` and so on."""
    flat: dict[str, Json] = {}
    _flatten(flat, verdict.claims, verdict.tee)
    flat["report_data"] = verdict.report_data
    flat["init_data"] = verdict.init_data or ""
    return flat


def _flatten(flat: dict[str, Json], value: Json, prefix: str) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            _flatten(flat, member, f"{prefix}.{name}")
    else:
        flat[prefix] = value


def _reports(verdict: Verdict) -> dict[str, Json]:
    return {
        "tee": verdict.tee,
        "evaluation-reports": [
            {"policy-id": _POLICY, "policy-hash": hashlib.sha384(_POLICY.encode()).hexdigest()}
        ],
        "reference-data": {},
        "customized_claims": {
            "init_data": verdict.init_data_claims,
            "runtime_data": dict(verdict.runtime_data),
        },
    }
