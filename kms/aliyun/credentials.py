"""The credential forms of Alibaba Cloud KMS, parsed. No I/O.

Names and forms are those of guest-components, confidential-data-hub/kms/src/plugins/aliyun.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from kms.errors import KmsCredentialError
from secrecy import Secret

MIN_RSA_BITS: Final = 2048
Region = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9\-]{1,64}$")]
RoleName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.\-]{1,64}$")]


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What a client of a dedicated instance signs with."""

    key_id: str
    private_key: rsa.RSAPrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A temporary access key and its security token."""

    key_id: str
    secret: Secret
    token: Secret


class _ClientKeyFile(msgspec.Struct, rename="pascal"):
    key_id: str
    private_key_data: str


class _PasswordFile(msgspec.Struct, rename="pascal"):
    client_key_password: str


class RamRole(msgspec.Struct, frozen=True):
    """``ecsRamRole.json``: which role of the machine to use, and where the KMS is."""

    ecs_ram_role_name: RoleName
    region_id: Region


class _Metadata(msgspec.Struct, rename="pascal"):
    access_key_id: str
    access_key_secret: str
    security_token: str


def parse_password(content: Secret) -> Secret:
    """Return the password of a client key: the text itself, or a member of a JSON object.

    The file is called ``.json`` whatever it holds: JSON up to guest-components v0.9, since then the
    bare text with blanks at its end cut off.
    """
    raw = content.reveal().rstrip()
    try:
        return Secret(msgspec.json.decode(raw, type=_PasswordFile).client_key_password)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Secret(raw)


def parse_client_key(content: Secret, password: Secret, path: str) -> ClientKey:
    """Open a client key. ``path`` is for the message of :class:`KmsCredentialError`.

    Deriving the key from the password takes milliseconds: call it in a thread.
    """
    try:
        parsed = msgspec.json.decode(content.reveal(), type=_ClientKeyFile)
        container = base64.b64decode(parsed.private_key_data, validate=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, ValueError):
        raise KmsCredentialError(
            path, "not JSON with the texts KeyId and PrivateKeyData (base64)"
        ) from None
    try:
        key, _, _ = pkcs12.load_key_and_certificates(container, password.reveal())
    except (ValueError, UnsupportedAlgorithm):
        raise KmsCredentialError(
            path, "PrivateKeyData is not a PKCS#12 container of this password",
            hint="key and password files belong together by their id",
        ) from None  # fmt: skip
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < MIN_RSA_BITS:
        raise KmsCredentialError(path, f"not an RSA key of at least {MIN_RSA_BITS} bits")
    return ClientKey(parsed.key_id, key)


def parse_ram_role(content: Secret, path: str) -> RamRole:
    """Raises :class:`KmsCredentialError`."""
    try:
        return msgspec.json.decode(content.reveal(), type=RamRole)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise KmsCredentialError(
            path, "not JSON with the names ecs_ram_role_name and region_id"
        ) from None


def parse_metadata(body: bytes) -> AccessKey | None:
    """Return the access key in an answer of the machine's metadata service; None if it is none."""
    try:
        found = msgspec.json.decode(body, type=_Metadata)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if not (found.access_key_id and found.access_key_secret and found.security_token):
        return None
    return AccessKey(
        found.access_key_id, Secret(found.access_key_secret), Secret(found.security_token)
    )


def parse_token_file(content: Secret, path: str) -> AccessKey:
    """Parse ``id:secret:token``. Raises :class:`KmsCredentialError`.

    One line end is cut off, which the reference would take as part of the token.
    """
    parts = content.reveal().removesuffix(b"\n").removesuffix(b"\r").split(b":")
    try:
        key_id = parts[0].decode("ascii")
    except UnicodeDecodeError:
        key_id = ""
    if len(parts) != 3 or not key_id or not parts[1] or not parts[2]:
        raise KmsCredentialError(path, "not of the form id:secret:token")
    return AccessKey(key_id, Secret(parts[1]), Secret(parts[2]))
