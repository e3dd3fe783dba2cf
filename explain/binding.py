"""What is the quote bound to? Report data against nonce, TEE key, hash and protocol version.

A hash tells only whether a guess is right. So every combination that could have been meant is
tried, and a match says which part differs from what the KBS expects. Source: KBS protocol,
kbs-types and trustee ``kbs/src/attestation/backend.rs`` (which members of the key are hashed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from explain.attest_request import AttestRequest, Form
from explain.finding import Code, Finding, Severity
from kbs.canonical import Canonical, canonical_json
from tdx.report_data import REPORT_DATA_BYTES

ALGORITHMS: Final = ("sha384", "sha256", "sha512", "sm3")
DEFAULT_ALGORITHM: Final = "sha384"
MAX_KNOWN: Final = 16  # nonces and keys that are tried; their product is hashed 32 times
# The members of each key type that a KBS keeps before it hashes (kbs-types TeePubKey).
KEY_MEMBERS: Final = {
    "RSA": ("kty", "alg", "n", "e"),
    "EC": ("kty", "crv", "alg", "x", "y"),
    "AKP": ("kty", "alg", "pub"),
}

Jwk = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Known:
    """What the KBS asked for, and other nonces and keys that may have been meant instead.

    ``nonce`` and ``algorithm`` come from the challenge; empty if it is not known.
    """

    nonce: str = ""
    algorithm: str = ""
    nonces: tuple[str, ...] = ()
    keys: tuple[Jwk, ...] = ()


@dataclass(frozen=True, slots=True)
class _Guess:
    form: str
    algorithm: str
    nonce: str
    key: Jwk
    whole_key: bool  # hashed with members that a KBS drops

    def report_data(self, additional: str) -> bytes | None:
        """The 64 bytes of this guess, or None where it has no meaning."""
        bound = _hash_input(self.form, self.nonce, self.key, additional)
        if bound is None:
            return None
        digest = hashlib.new(self.algorithm, bound).digest()
        return digest[:REPORT_DATA_BYTES].ljust(REPORT_DATA_BYTES, b"\0")


EARLY: Final = "0.1.0 before 2023-12"
BARE: Final = "0.1.0 to 0.2.0"
CURRENT: Final = "0.4.0"
_FORMS: Final = {Form.V0_4: CURRENT, Form.V0_2: BARE, Form.V0_1: BARE}


def explain_binding(report_data: bytes, request: AttestRequest, known: Known) -> Iterator[Finding]:
    """Yield why a KBS would not take ``report_data`` for this request; nothing if it would."""
    nonce = known.nonce or request.nonce
    key = kept_members(request.tee_pubkey)
    algorithm = known.algorithm or DEFAULT_ALGORITHM
    wanted = _Guess(_FORMS[request.form], algorithm, nonce, key, whole_key=False)
    expected = wanted.report_data(request.additional_evidence)
    if known.nonce and request.nonce and request.nonce != known.nonce:
        yield _other_nonce_sent(known.nonce, request.nonce)
    if expected == report_data or not nonce:
        return
    if not any(report_data):
        yield _zero()
        return
    match = _matching(report_data, wanted, request, known)
    if match is None:
        yield _unbound(report_data, expected)
        return
    yield from _differences(wanted, match)


def kept_members(key: Jwk) -> Jwk:
    """Return the members of a JWK that a KBS keeps, in no particular order."""
    names = KEY_MEMBERS.get(str(key.get("kty")), tuple(key))
    return {name: key[name] for name in names if name in key}


def _hash_input(form: str, nonce: str, key: Jwk, additional: str) -> bytes | None:
    if form == EARLY:
        n, e = key.get("n"), key.get("e")
        return f"{nonce}{n}{e}".encode() if isinstance(n, str) and isinstance(e, str) else None
    bound: dict[str, Canonical] = {"nonce": nonce, "tee-pubkey": _canonical(key)}
    if form == CURRENT:
        bound["additional-evidence"] = additional
    return canonical_json(bound)


def _canonical(key: Jwk) -> Canonical:
    # Members of a public JWK are strings; anything else was never hashed by anybody.
    return {name: value for name, value in key.items() if isinstance(value, str)}


def _matching(
    report_data: bytes, wanted: _Guess, request: AttestRequest, known: Known
) -> _Guess | None:
    nonces = _unique((wanted.nonce, request.nonce, *known.nonces))
    keys = [request.tee_pubkey, *known.keys][:MAX_KNOWN]
    guesses = (
        _Guess(form, algorithm, nonce, key, whole)
        for form in (wanted.form, CURRENT, BARE, EARLY)
        for algorithm in (wanted.algorithm, *ALGORITHMS)
        for nonce in nonces
        for whole, key in _both(keys)
    )
    additional = request.additional_evidence
    return next((guess for guess in guesses if guess.report_data(additional) == report_data), None)


def _unique(nonces: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(nonce for nonce in nonces if nonce))[:MAX_KNOWN]


def _both(keys: Sequence[Jwk]) -> Iterator[tuple[bool, Jwk]]:
    for key in keys:
        kept = kept_members(key)
        yield False, kept
        if kept != key:
            yield True, key


def _differences(wanted: _Guess, match: _Guess) -> Iterator[Finding]:
    if match.form != wanted.form:
        # 0.1.0 changed its hash and kept its number: only the KBS's release tells which is right.
        same_number = {match.form, wanted.form} == {EARLY, BARE}
        severity = Severity.WARNING if same_number else Severity.REFUSAL
        yield _protocol(wanted.form, match.form, severity)
    if match.algorithm != wanted.algorithm:
        yield _hash(wanted.algorithm, match.algorithm)
    if match.nonce != wanted.nonce:
        yield _nonce(wanted.nonce, match.nonce)
    if match.whole_key:
        yield _members(wanted.key, match.key)
    elif match.key != wanted.key:
        yield _key(wanted.key, match.key)


def thumbprint(key: Jwk) -> str:
    """Name a public key shortly: the first 16 hex digits of SHA-256 over its kept members."""
    return hashlib.sha256(canonical_json(_canonical(kept_members(key)))).hexdigest()[:16]


def _other_nonce_sent(challenge: str, sent: str) -> Finding:
    return Finding(
        Code.REPORT_DATA_NONCE,
        Severity.REFUSAL,
        "the request carries another nonce than the challenge of this session",
        "answer the challenge of the same session; one nonce serves one handshake",
        expected=challenge,
        got=sent,
    )


def _zero() -> Finding:
    return Finding(
        Code.REPORT_DATA_ZERO,
        Severity.REFUSAL,
        "the report data is zero: this quote was taken for no handshake",
        "take the quote after the challenge, over the hash of nonce and TEE key",
    )


def _unbound(report_data: bytes, expected: bytes | None) -> Finding:
    return Finding(
        Code.REPORT_DATA_UNBOUND,
        Severity.REFUSAL,
        "the report data binds neither this nonce with this key, nor any other pair in the bundle, "
        "under any protocol version or hash",
        "a hash does not tell which part differs: add the nonces and keys of other handshakes as "
        "handshakes.json, and look whether one quote was answered to several handshakes",
        expected="" if expected is None else expected.hex(),
        got=report_data.hex(),
    )


def _protocol(wanted: str, got: str, severity: Severity) -> Finding:
    return Finding(
        Code.REPORT_DATA_PROTOCOL,
        severity,
        "the report data is that of another protocol version",
        "let guest and KBS be of releases that speak the same protocol version",
        expected=f"the hash of protocol {wanted}",
        got=f"the hash of protocol {got}",
    )


def _hash(wanted: str, got: str) -> Finding:
    return Finding(
        Code.REPORT_DATA_HASH,
        Severity.REFUSAL,
        "the report data was made with another hash algorithm",
        "use the algorithm that the challenge selects, and SHA-384 where it selects none",
        expected=wanted,
        got=got,
    )


def _nonce(wanted: str, got: str) -> Finding:
    return Finding(
        Code.REPORT_DATA_NONCE,
        Severity.REFUSAL,
        "the quote is bound to another nonce: it answers another handshake",
        "take one quote for each handshake, and share quotes only for equal report data",
        expected=wanted,
        got=got,
    )


def _key(wanted: Jwk, got: Jwk) -> Finding:
    return Finding(
        Code.REPORT_DATA_KEY,
        Severity.REFUSAL,
        "the quote is bound to another TEE key than the request carries",
        "send the public key that was hashed; if nobody in the guest changed it, somebody on the "
        "way tried to have secrets encrypted to a key of its own",
        expected=f"key {thumbprint(wanted)}",
        got=f"key {thumbprint(got)}",
    )


def _members(wanted: Jwk, got: Jwk) -> Finding:
    extra = ", ".join(sorted(set(got) - set(wanted)))[:120]
    return Finding(
        Code.REPORT_DATA_MEMBERS,
        Severity.REFUSAL,
        f"the hash covers members of the TEE key that a KBS drops before hashing: {extra}",
        "export the TEE key with exactly the members the protocol names",
        expected=", ".join(wanted),
        got=", ".join(got)[:200],
    )
