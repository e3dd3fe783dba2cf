"""Messages of the KBS protocols 0.1.0, 0.1.1 and 0.2.0.

One class for all, since they differ in few places: whether ``extra-params`` and evidence are JSON
or text, what is hashed, and which keys the KBS takes. Sources: virtee kbs-types 0.4 to 0.10,
guest-components v0.7 to v0.13. The still older key form with ``k-mod`` and ``k-exp`` (Trustee
v0.5) is absent. Nothing here carries init-data or device evidence: these protocols have no place
for either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from kbs.errors import TeeKeyError
from kbs.payloads import (
    AuthRequest,
    Challenge,
    Evidence,
    HashAlgorithm,
    InitData,
    OfferedHashes,
    TokenGrant,
    digest_of,
    read_challenge,
    read_token,
)
from kbs.tee_key import TeeKeyAlgorithm

# guest-components v0.10 to v0.13; sm3 came with v0.15.
_OFFERED: Final = [HashAlgorithm.SHA256, HashAlgorithm.SHA384, HashAlgorithm.SHA512]

Binding = Callable[[Challenge, Mapping[str, str]], bytes]


class _Attestation(msgspec.Struct, rename="kebab"):
    tee_pubkey: Mapping[str, str]
    tee_evidence: str | Mapping[str, object] | msgspec.Raw


def bind_texts(challenge: Challenge, tee_pubkey: Mapping[str, str]) -> bytes:
    """Hash nonce, ``n`` and ``e`` as the texts that are sent (guest-components up to v0.8)."""
    bound = challenge.nonce + tee_pubkey["n"] + tee_pubkey["e"]
    return hashlib.sha384(bound.encode("ascii")).digest()


def bind_json(challenge: Challenge, tee_pubkey: Mapping[str, str]) -> bytes:
    """Hash nonce and key as canonical JSON (guest-components v0.9 to v0.13)."""
    return digest_of({"nonce": challenge.nonce, "tee-pubkey": tee_pubkey}, challenge)


def rsa_only(wanted: TeeKeyAlgorithm) -> TeeKeyAlgorithm:
    """A KBS of protocol 0.1.x knows no other key. Raises :class:`~kbs.errors.TeeKeyError`."""
    _refuse_ml_kem(wanted)
    return TeeKeyAlgorithm.RSA1_5


def _refuse_ml_kem(wanted: TeeKeyAlgorithm) -> None:
    """Who asks for a post-quantum key must not get another because a KBS claims to be old."""
    if wanted is TeeKeyAlgorithm.ML_KEM_768:
        raise TeeKeyError(
            f"a KBS of a protocol before 0.4.0 knows no {wanted.value} keys",
            attempted="choosing a TEE key",
            hint="upgrade the KBS to a pqc build, or set another tee_key_algorithm",
        )


def no_p521(wanted: TeeKeyAlgorithm) -> TeeKeyAlgorithm:
    """P-521 came with Trustee v0.16, after 0.2.0. Raises :class:`~kbs.errors.TeeKeyError`."""
    _refuse_ml_kem(wanted)
    return TeeKeyAlgorithm.EC_P256 if wanted is TeeKeyAlgorithm.EC_P521 else wanted


@dataclass(frozen=True, slots=True)
class OlderRcar:
    """The four messages of one older version. Implements :class:`kbs.handshake.RcarWire`.

    With ``as_text``, ``extra-params`` and evidence are strings. With ``uses_cookie``, resources
    are asked for with the session cookie too, since not every KBS of that age trusts its tokens.
    """

    version: str
    key_algorithm: Callable[[TeeKeyAlgorithm], TeeKeyAlgorithm]
    bind: Binding = bind_json
    as_text: bool = False
    uses_cookie: bool = False
    carries_devices: bool = False

    def encode_request(self, tee: str) -> bytes:
        """Return the body of ``POST /auth``."""
        extra_params = "" if self.as_text else OfferedHashes(_OFFERED)
        return msgspec.json.encode(AuthRequest(self.version, tee, extra_params))

    def decode_challenge(self, body: bytes) -> Challenge:
        """Read the answer to ``/auth``. Raises :class:`~kbs.errors.KbsProtocolError`."""
        return read_challenge(body)

    def device_digest(self, challenge: Challenge, tee_pubkey: Mapping[str, str]) -> bytes:
        """Return what a device's evidence would have to carry. None is sent."""
        return self.bind(challenge, tee_pubkey)

    def runtime_digest(
        self,
        challenge: Challenge,
        tee_pubkey: Mapping[str, str],
        device_evidence: str = "",  # noqa: ARG002 - no place for it
    ) -> bytes:
        """Return the digest that the evidence must carry."""
        return self.bind(challenge, tee_pubkey)

    def encode_attestation(
        self,
        challenge: Challenge,  # noqa: ARG002 - the session tells the nonce
        tee_pubkey: Mapping[str, str],
        evidence: Evidence,
        init_data: InitData | None = None,  # noqa: ARG002 - no place for it
        device_evidence: str = "",  # noqa: ARG002 - no place for it
    ) -> bytes:
        """Return the body of ``POST /attest``."""
        sent = msgspec.json.encode(evidence).decode() if self.as_text else evidence
        return msgspec.json.encode(_Attestation(tee_pubkey, sent))

    def decode_token(self, body: bytes) -> TokenGrant:
        """Read the answer to ``/attest``. Raises :class:`~kbs.errors.KbsProtocolError`."""
        return read_token(body)


RCAR_0_1_0_EARLY: Final = OlderRcar("0.1.0", rsa_only, bind_texts, as_text=True, uses_cookie=True)
RCAR_0_1_0_LATE: Final = OlderRcar("0.1.0", rsa_only, bind_json, as_text=True, uses_cookie=True)
RCAR_0_1_1: Final = OlderRcar("0.1.1", rsa_only)
RCAR_0_2_0: Final = OlderRcar("0.2.0", no_p521)
