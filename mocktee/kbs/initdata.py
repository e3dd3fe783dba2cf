"""Initdata sent with evidence: its digest over the exact bytes, and the claims made of it."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from typing import Final

from mocktee.kbs.encoding import Json, parse_json
from mocktee.kbs.errors import EvidenceRefusedError
from mocktee.kbs.messages import InitData

_ALGORITHMS: Final = frozenset({"sha256", "sha384", "sha512"})
_POLICY: Final = "policy.rego"
_POLICY_DATA: Final = "policy_data := {"
_PARSED_MEMBERS: Final = ("aa.toml", "cdh.toml")


@dataclass(frozen=True, slots=True)
class InitDataDigest:
    """The digest that has to stand in the quote, and the claims for the token."""

    digest: bytes
    claims: dict[str, Json]

    def register(self) -> bytes:
        """Return the 48 bytes of MRCONFIGID: padded with zeros, or cut."""
        return self.digest[:48].ljust(48, b"\0")


def digest_init_data(init_data: InitData) -> InitDataDigest:
    """Hash the body with the algorithm named inside. Raises :class:`EvidenceRefusedError`."""
    if init_data.format != "toml":
        raise EvidenceRefusedError("init-data: format is not toml")
    try:
        document = tomllib.loads(init_data.body)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise EvidenceRefusedError("init-data: body is not TOML") from error
    algorithm = document.get("algorithm")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise EvidenceRefusedError("init-data: algorithm is not sha256, sha384 or sha512")
    data = document.get("data")
    if not isinstance(data, dict):
        raise EvidenceRefusedError("init-data: table data is missing")
    claims = {name: _claim(name, text) for name, text in data.items()}
    policy_claims = _policy_claims(claims.get(_POLICY))
    if policy_claims is not None:
        del claims[_POLICY]
        claims["agent_policy_claims"] = policy_claims
    digest = hashlib.new(algorithm, init_data.body.encode()).digest()
    return InitDataDigest(digest, claims)


def _policy_claims(policy: Json) -> Json:
    """Return the JSON after ``policy_data :=``, the last thing in a policy; ``None`` without it."""
    if not isinstance(policy, str):
        return None
    _, found, rest = policy.partition(_POLICY_DATA)
    try:
        return parse_json(b"{" + rest.encode()) if found else None
    except ValueError:
        return None


def _claim(name: str, text: object) -> Json:
    if not isinstance(text, str):
        raise EvidenceRefusedError(f"init-data: member {name[:64]} is not a string")
    if name not in _PARSED_MEMBERS:
        return text
    try:
        parsed: Json = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise EvidenceRefusedError(f"init-data: member {name} is not TOML") from error
    return parsed
