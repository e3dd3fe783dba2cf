"""Whose tokens a KBS takes: its own, and those of the signers that it was told to trust.

Key selection as in Trustee: a header with ``jwk`` is taken at once where the insecure switch is
on, else it needs ``x5c`` whose leaf key is that very key and which chains to a trusted
certificate. Early simple tokens have ``jwk`` among the claims. Absent: ``jwk_set`` files by
``kid``.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mocktee.kbs.encoding import Json, b64u_decode
from mocktee.kbs.errors import MalformedError, TokenKeyError, TokenRefusedError
from mocktee.kbs.jws import SignedObject, VerifyingKey, parse_signed
from mocktee.kbs.teekey import TeePublicKey

LEEWAY: Final = 60  # seconds that Trustee grants an expired token
MAX_CHAIN: Final = 8  # certificates


class TokenVerifier:
    """Verifies tokens before their claims are used."""

    def __init__(
        self,
        own: VerifyingKey,
        clock: Callable[[], float],
        *,
        anchors: Sequence[x509.Certificate] = (),
        insecure_header_jwk: bool = False,
    ) -> None:
        self._own = own
        self._clock = clock
        self._anchors = tuple(anchors)
        self._insecure = insecure_header_jwk

    def verify(self, token: str) -> dict[str, Json]:
        """Return the claims. Raises :class:`TokenRefusedError`."""
        try:
            parsed = parse_signed(token)
            parsed.verify(self._key_of(parsed))
        except ValueError as error:
            raise TokenRefusedError(str(error)) from error
        expiry = parsed.claims.get("exp")
        if not isinstance(expiry, int):
            raise TokenRefusedError("claim exp is missing")
        late = int(self._clock()) - expiry
        if late > LEEWAY:
            raise TokenRefusedError(f"expired {late} seconds ago, {LEEWAY} are tolerated")
        return parsed.claims

    def _key_of(self, parsed: SignedObject) -> VerifyingKey:
        jwk = parsed.header.get("jwk", parsed.claims.get("jwk"))
        if not isinstance(jwk, dict):
            raise MalformedError("no jwk: only keys in the token are looked at")
        key = read_jwk(jwk)
        if key == self._own or self._insecure:
            return key
        endorse(jwk, key, self._anchors, self._clock())
        return key


def read_jwk(jwk: Mapping[str, Json]) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Return the public key of a JWK, RSA or EC P-256. Raises ``ValueError``."""
    match jwk:
        case {"kty": "EC", "crv": "P-256", "x": str(x), "y": str(y)}:
            return ec.EllipticCurvePublicNumbers(
                _number(x), _number(y), ec.SECP256R1()
            ).public_key()
        case {"kty": "RSA", "n": str(n), "e": str(e)}:
            return rsa.RSAPublicNumbers(_number(e), _number(n)).public_key()
        case _:
            raise MalformedError("jwk is neither an RSA nor an EC P-256 key")


def endorse(
    jwk: Mapping[str, Json],
    key: VerifyingKey,
    anchors: Sequence[x509.Certificate],
    now: float,
) -> None:
    """Refuse a header key that no anchor vouches for. Raises ``ValueError`` with the cause."""
    entries = jwk.get("x5c")
    if not isinstance(entries, list) or not entries:
        raise MalformedError("header jwk is not the key of this signer and has no x5c")
    if len(entries) > MAX_CHAIN:
        raise MalformedError(f"x5c of {len(entries)} certificates, at most {MAX_CHAIN}")
    leaf, *pool = (_certificate(entry) for entry in entries)
    if leaf.public_key() != key:
        raise MalformedError("header jwk is not the key of the leaf of x5c")
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    current = leaf
    for _ in range(MAX_CHAIN):
        _check_date(current, moment)
        # As OpenSSL by default: a chain ends at a root, not at any trusted certificate.
        if current in anchors and _issued(current, current):
            return
        above = (c for c in (*anchors, *pool) if c != current and _issued(current, c))
        following = next(above, None)
        if following is None:
            break
        current = following
    raise MalformedError("x5c does not chain to a trusted certificate")


def tee_key_of(claims: Mapping[str, Json], submodule: str = "cpu0") -> TeePublicKey:
    """Return the TEE key of verified claims; the first place that has one decides.

    Raises :class:`TokenKeyError`.
    """
    evidence = "ear.veraison.annotated-evidence"
    places = (
        ("customized_claims", "runtime_data", "tee-pubkey"),
        ("submods", submodule, evidence, "runtime_data_claims", "tee-pubkey"),
        ("tee-pubkey",),
    )
    found = (value for value in (_at(claims, place) for place in places) if value is not None)
    try:
        return TeePublicKey.parse(next(found, None))
    except ValueError as error:
        raise TokenKeyError(f"no usable TEE key in the token: {error}") from error


def _at(claims: Mapping[str, Json], place: Sequence[str]) -> Json:
    value: Json = dict(claims)
    for name in place:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_date(certificate: x509.Certificate, moment: dt.datetime) -> None:
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        raise MalformedError("a certificate of x5c is not valid at this time")


def _certificate(entry: Json) -> x509.Certificate:
    """Read standard base64, or URL-safe without padding; line ends are no part of it."""
    if not isinstance(entry, str):
        raise MalformedError("an entry of x5c is not a string")
    text = "".join(entry.split())
    try:
        if set("-_") & set(text) or len(text) % 4:
            return x509.load_der_x509_certificate(b64u_decode(text))
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error) as error:
        raise MalformedError("an entry of x5c is not a certificate") from error


def _number(text: str) -> int:
    return int.from_bytes(b64u_decode(text), "big")
