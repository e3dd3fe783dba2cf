"""Who may administer: a signed bearer JWT with ``exp`` and the role ``admin`` (Trustee v0.21).

Earlier servers know no roles: a JWT of the configured Ed25519 key with ``exp`` is enough, and
``open_to_all`` (``insecure_api``, ``InsecureAllowAll``) turns the check off.

A fresh Ed25519 key signs one ready-made token, written to ``admin-token`` in the state directory
with mode 0600; further public keys (Ed25519 or EC P-256) may be given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mocktee.certs import write_private
from mocktee.kbs.encoding import Json
from mocktee.kbs.errors import MalformedError
from mocktee.kbs.jws import SignedObject, VerifyingKey, parse_signed, sign_claims
from mocktee.kbs.wording import NO_BEARER

TOKEN_FILE: Final = "admin-token"
ROLE: Final = "admin"
TOKEN_LIFE: Final = 30 * 24 * 3600  # seconds
LEEWAY: Final = 60  # seconds
_SCHEME: Final = "bearer "


def load_admin_key(path: Path) -> VerifyingKey:
    """Read a PEM public key, Ed25519 or EC P-256. Raises ``ValueError`` on another kind."""
    key = load_pem_public_key(path.read_bytes())
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise MalformedError(f"{path} holds neither an Ed25519 nor an EC P-256 public key")


class AdminAuthority:
    """Verifies admin tokens and issues the one in the state directory."""

    def __init__(
        self,
        keys: Sequence[VerifyingKey],
        clock: Callable[[], float],
        *,
        needs_role: bool = True,
        open_to_all: bool = False,
    ) -> None:
        self._needs_role = needs_role
        self._open_to_all = open_to_all
        own = ed25519.Ed25519PrivateKey.generate()
        self._clock = clock
        self._keys: tuple[VerifyingKey, ...] = (own.public_key(), *keys)
        now = int(clock())
        self.token = sign_claims(
            {"typ": "JWT", "alg": "EdDSA"},
            {"iat": now, "exp": now + TOKEN_LIFE, "role": ROLE},
            own,
        )

    def save_token(self, state: Path) -> Path:
        """Write the ready-made token to ``state``; return the file."""
        path = state / TOKEN_FILE
        write_private(path, self.token.encode())
        return path

    def check(self, authorization: str | None, path: str) -> None:
        """Judge an Authorization header. Raises ``ValueError`` with Trustee's text of the cause."""
        if not self._open_to_all:
            self.check_token(authorization, path)

    def check_token(self, authorization: str | None, path: str) -> None:
        """The same where nothing is open to all."""
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise MalformedError(NO_BEARER)
        claims = self._verified_claims(authorization[len(_SCHEME) :].strip())
        if claims is None:
            raise MalformedError("Admin access denied: Cannot verify token with any of the issuers")
        if not self._needs_role:
            return
        role = claims.get("role")
        if not isinstance(role, str):
            raise MalformedError(
                "Admin access denied: Failed to parse claims from token: "
                'AdminAccessDenied { reason: "Missing required `role` claim in JWT" }'
            )
        if role != ROLE:
            raise MalformedError(
                f"Admin access denied: Role {role[:64]} not allowed for path {path}"
            )

    def _verified_claims(self, token: str) -> dict[str, Json] | None:
        try:
            parsed = parse_signed(token)
        except ValueError:
            return None
        expiry = parsed.claims.get("exp")
        if not isinstance(expiry, int) or expiry + LEEWAY < self._clock():
            return None
        return parsed.claims if any(_verifies(parsed, key) for key in self._keys) else None


def _verifies(parsed: SignedObject, key: VerifyingKey) -> bool:
    try:
        parsed.verify(key)
    except ValueError:
        return False
    return True
