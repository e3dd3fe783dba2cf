"""The claims of an attestation token (EAR), read and explained. Nothing here verifies a token.

A token is judged by the KBS that issued it; a copy of its claims tells what the attestation service
thought. Source: draft-ietf-rats-ear; trustee ``attestation-service``: ``attestation_token.md`` and
``ear_default_policy_cpu.rego`` (which claims the default policy reads).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from explain.errors import BundleError
from explain.finding import Code, Finding, Severity
from explain.part_json import json_object
from explain.reference_values import ReferenceValues
from explain.trust_vector import Tier, tier, words
from kbs.peer_json import PeerTextError, decode_base64url

MAX_SUBMODULES: Final = 16
MAX_TOKEN_BYTES: Final = 256 * 1024
MAX_VALUE: Final = 200  # characters of a claim that are shown
EVIDENCE: Final = "ear.veraison.annotated-evidence"
# The claims that Trustee's default policy reads for a TDX guest, by the trust claim they decide.
READS: Final = {
    "executables": ("quote.body.rtmr_1", "quote.body.rtmr_2"),
    "hardware": ("quote.body.mr_td", "tcb_status", "collateral_expiration_status"),
    "configuration": ("td_attributes.debug", "quote.body.xfam"),
}
_STATIC_GOOD: Final = {
    "tcb_status": ("UpToDate",),
    "collateral_expiration_status": ("0",),
    "td_attributes.debug": ("false",),
}


@dataclass(frozen=True, slots=True)
class Submodule:
    """One appraised device; ``cpu0`` is the TEE itself."""

    name: str
    status: str
    vector: Mapping[str, int]
    tee: str
    claims: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What an EAR says. ``expires_at`` is unix seconds, None if the token has no end."""

    submodules: tuple[Submodule, ...]
    issued_at: float | None
    expires_at: float | None


def claims_of_token(token: bytes) -> bytes:
    """Return the payload of a JWT, without header and signature, so that it opens nothing.

    Raises :class:`~explain.errors.BundleError`, which never quotes the token.
    """
    sections = token.strip().split(b".")
    if len(token) > MAX_TOKEN_BYTES or len(sections) != 3:
        raise BundleError("token", "expected a JWT of three sections")
    try:
        return decode_base64url(sections[1].decode("ascii"))
    except (PeerTextError, UnicodeDecodeError):
        raise BundleError("token", "its payload is not base64url") from None


def parse_token_claims(data: bytes) -> TokenClaims:
    """Read the claims. Raises :class:`~explain.errors.BundleError`."""
    members = json_object(data, "token-claims.json")
    submodules = members.get("submods")
    if not isinstance(submodules, dict):
        raise BundleError("token-claims.json", "no member submods: these are no EAR claims")
    return TokenClaims(
        tuple(_submodule(name, value) for name, value in list(submodules.items())[:MAX_SUBMODULES]),
        _seconds(members.get("iat")),
        _seconds(members.get("exp")),
    )


def _submodule(name: str, value: object) -> Submodule:
    members = value if isinstance(value, dict) else {}
    vector = members.get("ear.trustworthiness-vector")
    evidence = members.get(EVIDENCE)
    evidence = evidence if isinstance(evidence, dict) else {}
    tee = next((key for key in evidence if key in _TEES), "")
    claims = evidence.get(tee)
    return Submodule(
        name[:64],
        str(members.get("ear.status", "none"))[:32],
        {k: v for k, v in vector.items() if isinstance(v, int)} if isinstance(vector, dict) else {},
        tee,
        claims if isinstance(claims, dict) else {},
    )


_TEES: Final = frozenset(
    {"tdx", "sgx", "snp", "sample", "cca", "csv", "se", "tpm", "az-tdx-vtpm", "az-snp-vtpm"}
)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 2**40 else None


def explain_token(
    token: TokenClaims, references: ReferenceValues | None, now: float | None
) -> Iterator[Finding]:
    """Yield each trust claim that is not affirming, with the claims that decide it."""
    if now is not None and token.expires_at is not None and token.expires_at <= now:
        yield _expired(token.expires_at, now)
    for submodule in token.submodules:
        for claim, value in submodule.vector.items():
            if tier(value) in (Tier.WARNING, Tier.CONTRAINDICATED):
                yield _doubtful(submodule, claim, value, references)


def _doubtful(
    submodule: Submodule, claim: str, value: int, references: ReferenceValues | None
) -> Finding:
    deciding = READS.get(claim, ()) if submodule.tee == "tdx" else ()
    wrong = [
        (path, got, good)
        for path in deciding
        if (got := claim_at(submodule.claims, path)) not in (good := _good(path, references))
    ]
    return Finding(
        Code.TRUST_VECTOR,
        Severity.WARNING,
        f"{submodule.name}: {claim} is {value}, {tier(value)}: {words(claim, value)}",
        _advice(claim, deciding, references, all_good=not wrong),
        expected="; ".join(f"{path} = {_shown(good)}" for path, _, good in wrong),
        got="; ".join(f"{path} = {got}" for path, got, _ in wrong),
    )


def _advice(
    claim: str, deciding: tuple[str, ...], references: ReferenceValues | None, *, all_good: bool
) -> str:
    if not deciding:
        return "look into the attestation policy for what decides this claim"
    if all_good:
        return (
            f"every claim that Trustee's default policy reads for {claim} is good by the values "
            "here: the KBS has other reference values, or another policy"
        )
    names = ", ".join(path.rpartition(".")[2] for path in deciding)
    known = "" if references is not None else " (add them to the bundle to see which)"
    return (
        f"Trustee's default policy decides {claim} by {names} against the reference values{known}; "
        "register what is good with cguest reference-values"
    )


def _good(path: str, references: ReferenceValues | None) -> tuple[str, ...]:
    if path in _STATIC_GOOD:
        return _STATIC_GOOD[path]
    return () if references is None else references.good(path.rpartition(".")[2])


def _shown(good: tuple[str, ...]) -> str:
    return " or ".join(good[:2]) or "a reference value (none is known)"


def claim_at(claims: Mapping[str, object], path: str) -> str:
    """Return the value of a dotted claim in the spelling of a policy; ``absent`` if not there."""
    value: object = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    match value:
        case None:
            return "absent"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)[:MAX_VALUE]


def _expired(expires_at: float, now: float) -> Finding:
    return Finding(
        Code.TOKEN_EXPIRED,
        Severity.WARNING,
        "the token has ended by the guest's clock",
        "attest again; if a new token has ended too, the clocks of guest and KBS differ",
        expected=f"an end after {_moment(now)}",
        got=_moment(expires_at),
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
