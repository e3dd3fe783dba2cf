"""Messages of KBS protocol 0.4.0: bytes to values and values to bytes, nothing else.

Owns the member names, the bounds, what is hashed, and the readers that all versions share. Which
message comes when is :mod:`kbs.handshake`'s, older versions are :mod:`kbs.older_payloads`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec
from cryptography.hazmat.primitives import hashes

from kbs.canonical import Canonical, canonical_json
from kbs.errors import KbsProtocolError
from kbs.peer_json import PeerTextError, decode_base64url, decode_object
from kbs.tee_key import TeeKeyAlgorithm
from secrecy import Secret

PROTOCOL_VERSION: Final = "0.4.0"
MAX_TOKEN_CHARACTERS: Final = 96 * 1024  # must fit one request header of the KBS's HTTP server
# A nonce is the base64 of 32 bytes; IBM SE's is longer. Used as text, never decoded.
_NONCE: Final = re.compile(r"[\x21-\x7e]{1,1024}", re.ASCII)

# Evidence as the attester made it: a JSON object, or its text already encoded.
Evidence = Mapping[str, object] | msgspec.Raw


class HashAlgorithm(StrEnum):
    """Hash algorithms of the protocol, spelled as on the wire."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"
    SM3 = "sm3"


_HASHES: Final[dict[HashAlgorithm, type[hashes.HashAlgorithm]]] = {
    HashAlgorithm.SHA256: hashes.SHA256,
    HashAlgorithm.SHA384: hashes.SHA384,
    HashAlgorithm.SHA512: hashes.SHA512,
    HashAlgorithm.SM3: hashes.SM3,
}
DEFAULT_HASH: Final = HashAlgorithm.SHA384


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the KBS wants bound into the evidence."""

    nonce: str
    hash_algorithm: HashAlgorithm


@dataclass(frozen=True, slots=True)
class InitData:
    """The document this guest was started with, as delivered. The KBS hashes it itself."""

    body: str = field(repr=False)
    format: str = "toml"


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """A token, and when it says it ends (unix seconds, ``None`` if it does not say)."""

    token: Secret = field(repr=False)
    expires_at: float | None


class OfferedHashes(msgspec.Struct, rename="kebab"):
    supported_hash_algorithms: list[HashAlgorithm]


class AuthRequest(msgspec.Struct, rename="kebab"):
    version: str
    tee: str
    extra_params: OfferedHashes | str


class _RuntimeData(msgspec.Struct, rename="kebab"):
    nonce: str
    tee_pubkey: Mapping[str, str]


class _CompositeEvidence(msgspec.Struct):
    # These two are spelled with underscores on the wire, unlike everything around them.
    primary_evidence: Mapping[str, object] | msgspec.Raw
    additional_evidence: str


class _Attestation(msgspec.Struct, rename="kebab"):
    init_data: InitData | None
    runtime_data: _RuntimeData
    tee_evidence: _CompositeEvidence


class Rcar040:
    """The four messages of KBS protocol 0.4.0 (kbs-types 0.14 and later). Stateless."""

    version: Final = PROTOCOL_VERSION
    carries_devices: Final = True
    uses_cookie: Final = False

    def key_algorithm(self, wanted: TeeKeyAlgorithm) -> TeeKeyAlgorithm:
        """Return ``wanted``: this version knows every kind of key that there is here."""
        return wanted

    def encode_request(self, tee: str) -> bytes:
        """Return the body of ``POST /auth``."""
        return msgspec.json.encode(
            AuthRequest(PROTOCOL_VERSION, tee, OfferedHashes(list(HashAlgorithm)))
        )

    def decode_challenge(self, body: bytes) -> Challenge:
        """Read the answer to ``/auth``. Raises :class:`~kbs.errors.KbsProtocolError`."""
        return read_challenge(body)

    def device_digest(self, challenge: Challenge, tee_pubkey: Mapping[str, str]) -> bytes:
        """Return what the evidence of each further device must carry."""
        return digest_of({"nonce": challenge.nonce, "tee-pubkey": tee_pubkey}, challenge)

    def runtime_digest(
        self, challenge: Challenge, tee_pubkey: Mapping[str, str], device_evidence: str = ""
    ) -> bytes:
        """Return what the evidence must carry: nonce, key and device evidence, hashed.

        The hashed member is called ``additional-evidence``, the sent one ``additional_evidence``;
        it is there, empty, even when no device adds evidence.
        """
        bound: Mapping[str, Canonical] = {
            "additional-evidence": device_evidence,
            "nonce": challenge.nonce,
            "tee-pubkey": tee_pubkey,
        }
        return digest_of(bound, challenge)

    def encode_attestation(
        self,
        challenge: Challenge,
        tee_pubkey: Mapping[str, str],
        evidence: Evidence,
        init_data: InitData | None = None,
        device_evidence: str = "",
    ) -> bytes:
        """Return the body of ``POST /attest``."""
        return msgspec.json.encode(
            _Attestation(
                init_data=init_data,
                runtime_data=_RuntimeData(challenge.nonce, tee_pubkey),
                tee_evidence=_CompositeEvidence(evidence, device_evidence),
            )
        )

    def decode_token(self, body: bytes) -> TokenGrant:
        """Read the answer to ``/attest``. Raises :class:`~kbs.errors.KbsProtocolError`."""
        return read_token(body)


RCAR_0_4_0: Final = Rcar040()


def digest_of(value: Mapping[str, Canonical], challenge: Challenge) -> bytes:
    """Hash the canonical JSON of ``value`` with the negotiated algorithm."""
    digest = hashes.Hash(_HASHES[challenge.hash_algorithm]())
    digest.update(canonical_json(value))
    return digest.finalize()


def read_challenge(body: bytes) -> Challenge:
    """Read an answer to ``/auth``, of every version. Raises ``KbsProtocolError``."""
    members = _decode("challenge", body)
    nonce = members.get("nonce")
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise _wrong("challenge", "the nonce is missing or not 1 to 1024 visible characters")
    if "extra-params" not in members:
        raise _wrong("challenge", "extra-params is missing")
    return Challenge(nonce, _negotiated_hash(members["extra-params"]))


def read_token(body: bytes) -> TokenGrant:
    """Read an answer to ``/attest``, of every version. Raises ``KbsProtocolError``."""
    token = _decode("token answer", body).get("token")
    if not isinstance(token, str):
        raise _wrong("token answer", "the token is missing or not a string")
    return token_grant(token)


def token_grant(token: str) -> TokenGrant:
    """Read when a JWT ends, without verifying its signature.

    The token is for the KBS, which verifies it on every use; to this guest it is an opaque ticket
    that came over the authenticated connection, and ``exp`` only a hint for early renewal.
    Raises :class:`~kbs.errors.KbsProtocolError` if it is not a JWT at all.
    """
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise _wrong("token", f"longer than {MAX_TOKEN_CHARACTERS} characters")
    sections = token.split(".")
    if len(sections) != 3:
        raise _wrong("token", f"a JWT has 3 sections, this has {len(sections)}")
    try:
        decode_object(decode_base64url(sections[0]))
        claims = decode_object(decode_base64url(sections[1]))
        decode_base64url(sections[2])
    except PeerTextError as error:
        raise _wrong("token", str(error)) from None
    return TokenGrant(Secret(token), _expiry(claims.get("exp")))


def _expiry(exp: object) -> float | None:
    if exp is None:
        return None
    # RFC 7519 2, NumericDate; the bound keeps later arithmetic and display safe.
    if isinstance(exp, bool) or not isinstance(exp, int | float):
        raise _wrong("token", "exp is not a number")
    if not 0 <= exp < 2**40:  # false for infinity too
        raise _wrong("token", "exp is out of range")
    return float(exp)


def _negotiated_hash(extra_params: object) -> HashAlgorithm:
    """Apply the client rule of the protocol: absent means SHA-384, present must be known."""
    if not isinstance(extra_params, dict) or "selected-hash-algorithm" not in extra_params:
        return DEFAULT_HASH
    selected = extra_params["selected-hash-algorithm"]
    if not isinstance(selected, str):
        raise _wrong("challenge", "selected-hash-algorithm is not a string")
    try:
        return HashAlgorithm(selected.lower())
    except ValueError:
        raise _wrong(
            "challenge", f"hash algorithm {selected[:32]!r} is not one that was offered"
        ) from None


def _decode(message: str, body: bytes) -> dict[str, object]:
    try:
        return decode_object(body)
    except PeerTextError as error:
        raise _wrong(message, str(error)) from None


def _wrong(message: str, problem: str) -> KbsProtocolError:
    return KbsProtocolError(
        f"the {message} is not of the KBS protocol: {problem}",
        hint="see that the URL is that of a KBS and not of a proxy or another service",
    )
