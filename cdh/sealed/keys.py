"""Where the key that checks a sealed secret comes from, and what a usable key is.

A ``kid`` is the URI of a KBS resource, or a file name below one directory that only the measured
image or the agent writes (``/run/confidential-containers/cdh/sealed-secret``).
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from cdh.errors import SealedFormatError, SealedKeyError
from cdh.resources import ResourceSource
from cdh.sealed.textual import decode_section
from cdh.secret_policy import ALLOW_ALL, SecretPolicy
from kbs import ResourceUri, ResourceUriError

KEY_DIRECTORY: Final = Path("/run/confidential-containers/cdh/sealed-secret")
MAX_KEY_BYTES: Final = 16 * 1024
COORDINATE_BYTES: Final = 32  # P-256, RFC 7518 6.2.1.2
_FILE_KID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_MAX_KID: Final = 512


class Jwk(msgspec.Struct):
    """A JSON Web Key as far as it is looked at (RFC 7517, RFC 7518 6.2)."""

    kty: str
    crv: str
    x: str
    y: str
    alg: str = "ES256"
    use: str = "sig"


def parse_public_jwk(kid: str, data: bytes) -> ec.EllipticCurvePublicKey:
    """Return the P-256 public key in ``data``. Raises :class:`SealedKeyError`.

    A private JWK works too, its ``d`` is not looked at. ``alg`` and ``use`` may be absent but
    not contradict. Points off the curve are refused.
    """
    if len(data) > MAX_KEY_BYTES:
        raise SealedKeyError(kid, f"longer than {MAX_KEY_BYTES} bytes")
    try:
        jwk = msgspec.json.decode(data, type=Jwk)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Without "from": the decoder's text may quote the key.
        raise SealedKeyError(kid, "not a JSON Web Key with kty, crv, x and y") from None
    if (jwk.kty, jwk.crv, jwk.alg, jwk.use) != ("EC", "P-256", "ES256", "sig"):
        raise SealedKeyError(kid, "not an EC P-256 key for ES256 signatures")
    try:
        x, y = decode_section("x", jwk.x), decode_section("y", jwk.y)
    except SealedFormatError as error:
        raise SealedKeyError(kid, f"coordinate {error.part} is not base64url") from error
    if len(x) != COORDINATE_BYTES or len(y) != COORDINATE_BYTES:
        raise SealedKeyError(kid, f"a coordinate is not {COORDINATE_BYTES} bytes long")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    )
    try:
        return numbers.public_key()
    except ValueError as error:
        raise SealedKeyError(kid, "the point is not on the curve") from error


def parse_kid(kid: str) -> ResourceUri | str:
    """Return the resource URI or the file name that ``kid`` is. Raises :class:`SealedKeyError`.

    Anything with a colon must be a resource URI: it never falls back to a file. Only the
    ``resource`` plugin may be named, because whoever wrote the text chooses what is fetched.
    """
    if ":" in kid[:_MAX_KID]:
        try:
            uri = ResourceUri.parse(kid)
        except ResourceUriError as error:
            raise SealedKeyError(kid, "not a KBS resource URI") from error
        if uri.plugin != "resource":
            raise SealedKeyError(kid, f"KBS plugin {uri.plugin!r} does not hold signing keys")
        return uri
    if len(kid) > _MAX_KID or not _FILE_KID.fullmatch(kid):
        raise SealedKeyError(
            kid, "neither a KBS resource URI nor a plain file name", hint="use kbs:///repo/type/tag"
        )
    return kid


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Finds signing keys that ``policy`` names: in the key broker, or in ``directory``.

    ``resources`` is the source without the policy, which has rules of their own for keys.
    """

    resources: ResourceSource
    directory: Path = KEY_DIRECTORY
    policy: SecretPolicy = ALLOW_ALL

    async def find(self, kid: str) -> ec.EllipticCurvePublicKey:
        """Return the key ``kid`` names.

        Raises :class:`SealedKeyError`, :class:`~cdh.errors.SecretPolicyError`, or what the
        resource source raises. May wait for the network; the caller's deadline applies.
        """
        place = parse_kid(kid)
        self.policy.require_kid(place)
        match place:
            case str() as name:
                data = await asyncio.to_thread(self._read, name)
            case uri:
                data = (await self.resources.get(uri)).reveal()
        return parse_public_jwk(kid, data)

    def _read(self, name: str) -> bytes:
        """Read a key file. Symbolic links are followed, but not out of the directory."""
        try:
            directory = self.directory.resolve(strict=True)
            path = (directory / name).resolve(strict=True)
            if not path.is_relative_to(directory):
                raise SealedKeyError(name, f"a link that leaves {self.directory}")
            with path.open("rb") as file:
                return file.read(MAX_KEY_BYTES + 1)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise SealedKeyError(
                name, f"cannot be read from {self.directory}: {reason}", hint="provision the key"
            ) from error
