"""The TEE public key of ``runtime-data`` and tokens: a typed JWK and nothing but its members.

Trustee parses the key into a typed value and writes it out again before hashing, so a member that
is not listed here is dropped and breaks the binding of a client that hashed it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mocktee.kbs.encoding import Json
from mocktee.kbs.errors import MalformedError

_MEMBERS = {
    "EC": ("kty", "crv", "alg", "x", "y"),
    "RSA": ("kty", "alg", "n", "e"),
    "AKP": ("kty", "alg", "pub"),
}


@dataclass(frozen=True, slots=True)
class TeePublicKey:
    """A key as it was sent. Whether it can be used shows at the first encryption."""

    members: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, value: Json) -> TeePublicKey:
        """Take the listed members of a JWK. Raises ``ValueError`` naming what is missing."""
        if not isinstance(value, dict):
            raise MalformedError("tee-pubkey is not a JSON object")
        kty = value.get("kty")
        if not isinstance(kty, str) or kty not in _MEMBERS:
            raise MalformedError("tee-pubkey has a kty other than EC, RSA or AKP")
        members = []
        for name in _MEMBERS[kty]:
            member = value.get(name)
            if not isinstance(member, str):
                raise MalformedError(f"tee-pubkey member {name} is missing or not a string")
            members.append((name, member))
        return cls(tuple(members))

    def jwk(self) -> dict[str, Json]:
        """Return the JWK that enters hashes and tokens."""
        return dict(self.members)

    def member(self, name: str) -> str:
        """Return one member; the empty text if this kind of key has none of that name."""
        return dict(self.members).get(name, "")
