"""The bundle: everything a refusal can be explained from, as named parts without secrets. No I/O.

A person attaches a bundle to a ticket, so nothing secret may be in it: not the private TEE key, and
of a token its claims only, never its signature. The parts are public or seen by the host anyway.
Which file or archive they come from is ``cguest``'s business; what they mean, ``case.py``'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from explain.errors import BundleError, SecretInBundleError
from explain.part_json import decode_json


class Part(StrEnum):
    """Names of parts, which are the file names in a directory or archive."""

    MANIFEST = "bundle.json"
    EVIDENCE = "evidence.json"
    ATTEST_REQUEST = "attest-request.json"
    CHALLENGE = "challenge.json"
    HANDSHAKES = "handshakes.json"
    ANSWER = "kbs-answer.json"
    TOKEN_CLAIMS = "token-claims.json"  # noqa: S105 - a file name
    INITDATA = "initdata.toml"
    REFERENCE_VALUES = "reference-values.json"
    REFERENCE_LOG = "reference-eventlog.bin"
    COLLATERAL = "collateral.json"
    ROOT = "trusted-root.pem"
    RESOURCE_POLICY = "resource-policy.rego"


KIB: Final = 1024
MIB: Final = 1024 * KIB
# A request holds a log of at most 1 MiB and a quote, in base64.
LIMITS: Final[Mapping[Part, int]] = {
    Part.MANIFEST: 16 * KIB,
    Part.EVIDENCE: 2 * MIB,
    Part.ATTEST_REQUEST: 3 * MIB,
    Part.CHALLENGE: 64 * KIB,
    Part.HANDSHAKES: 64 * KIB,
    Part.ANSWER: 64 * KIB,
    Part.TOKEN_CLAIMS: 1 * MIB,
    Part.INITDATA: 1 * MIB,
    Part.REFERENCE_VALUES: 1 * MIB,
    Part.REFERENCE_LOG: 1 * MIB,
    Part.COLLATERAL: 1 * MIB,
    Part.ROOT: 16 * KIB,
    Part.RESOURCE_POLICY: 1 * MIB,
}
# What a part of a bundle never holds. The patterns are of forms, so they find any value.
_SECRET_FORMS: Final = (
    (re.compile(rb"PRIVATE KEY-----"), "a private key"),
    (re.compile(rb'"tee_keypair"'), "a TEE key pair"),
    # header.payload.signature: whoever has it has the guest's session.
    (re.compile(rb"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"), "a bearer token"),
)
_PRIVATE_JWK_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "k"})  # RFC 7518 6


@dataclass(frozen=True, slots=True)
class Bundle:
    """Parts by name, each within its limit and without secrets. Made by :meth:`of` only."""

    parts: Mapping[Part, bytes] = field(repr=False)

    @classmethod
    def of(cls, parts: Mapping[str, bytes]) -> Bundle:
        """Check and take parts.

        Raises :class:`~explain.errors.BundleError` for a name that is none, or a part above its
        limit, and :class:`~explain.errors.SecretInBundleError` for one that holds a secret.
        """
        return cls({_part(name): _content(_part(name), data) for name, data in parts.items()})

    def get(self, part: Part) -> bytes | None:
        """Return a part, or None if the bundle has none of that name."""
        return self.parts.get(part)

    def plus(self, parts: Mapping[Part, bytes]) -> Bundle:
        """Return a bundle with further parts, which win over parts of the same name."""
        merged = {**self.parts, **parts}
        return Bundle.of({str(part): data for part, data in merged.items()})


def _part(name: str) -> Part:
    try:
        return Part(name)
    except ValueError:
        known = ", ".join(Part)
        raise BundleError(name, "no part has this name", hint=f"parts are {known}") from None


def _content(part: Part, data: bytes) -> bytes:
    if len(data) > LIMITS[part]:
        raise BundleError(part, f"{len(data)} bytes, expected at most {LIMITS[part]}")
    for pattern, what in _SECRET_FORMS:
        if pattern.search(data):
            raise SecretInBundleError(part, what)
    if b'"kty"' in data and any(_is_private_jwk(value) for value in _objects(data)):
        raise SecretInBundleError(part, "a private JWK")
    return data


def _is_private_jwk(value: Mapping[str, object]) -> bool:
    return "kty" in value and not _PRIVATE_JWK_MEMBERS.isdisjoint(value)


def _objects(data: bytes) -> Iterator[Mapping[str, object]]:
    """Every JSON object in a part, at any depth; none if the part is not JSON."""
    try:
        left: list[object] = [decode_json(data, "part")]
    except BundleError:
        return
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
