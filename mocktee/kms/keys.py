"""What a KMS keeps: client keys, data keys under key ids, and secrets with versions."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import pkcs12

GCM_IV_BYTES = 12


@dataclass(frozen=True, slots=True)
class KmsClientKey:
    """A client key as the service hands it out: two files, and the half it keeps."""

    key_id: str
    client_key_json: bytes = field(repr=False)
    password: str = field(repr=False)
    public_key: rsa.RSAPublicKey = field(repr=False)


def make_client_key(key_id: str = "KAAP.mock-client-key") -> KmsClientKey:
    """Make a client key. The password is random."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    password = secrets.token_hex(16)
    container = pkcs12.serialize_key_and_certificates(
        b"client", private, None, None,
        serialization.BestAvailableEncryption(password.encode()),
    )  # fmt: skip
    text = {"KeyId": key_id, "PrivateKeyData": base64.b64encode(container).decode()}
    return KmsClientKey(key_id, json.dumps(text).encode(), password, private.public_key())


@dataclass(slots=True)
class MockKeys:
    """The store. ``secrets`` maps names to versions, the last of which is current."""

    client_keys: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)
    data_keys: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)

    def add_key(self, key_id: str) -> None:
        """Make a key that never leaves."""
        self.data_keys[key_id] = secrets.token_bytes(32)

    def add_secret(self, name: str, value: str, version: str = "v1") -> None:
        """Add a version of a secret; it becomes the current one."""
        self.secrets.setdefault(name, {})[version] = value

    def encrypt(self, key_id: str, plaintext: bytes) -> tuple[bytes, bytes]:
        """Return ciphertext and iv. Raises ``KeyError`` for an unknown key."""
        iv = secrets.token_bytes(GCM_IV_BYTES)
        return AESGCM(self.data_keys[key_id]).encrypt(iv, plaintext, None), iv

    def decrypt(self, key_id: str, ciphertext: bytes, iv: bytes) -> bytes | None:
        """Return the plaintext; None if it does not open. Raises ``KeyError``."""
        try:
            return AESGCM(self.data_keys[key_id]).decrypt(iv, ciphertext, None)
        except (InvalidTag, ValueError):
            return None

    def secret(self, name: str, stage: str, version: str) -> tuple[str, str] | None:
        """Return value and version; None if there is no such secret or version."""
        versions = self.secrets.get(name, {})
        if not version and stage in {"", "ACSCurrent"}:
            version = next(reversed(versions), "")
        elif stage == "ACSPrevious" and len(versions) > 1:
            version = list(versions)[-2]
        return (versions[version], version) if version in versions else None
