"""From sealed text to value, in the order that matters: form, signature, payload, provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from cdh.resources import ResourceSource
from cdh.sealed.envelope import open_envelope
from cdh.sealed.payload import EnvelopePayload, VaultPayload, parse_payload
from cdh.sealed.signature import SignatureVerifier
from cdh.sealed.textual import decode_section, parse_sealed_text
from cdh.sealed.vault import KBS, fetch_vault
from cdh.secret_policy import ALLOW_ALL, SecretPolicy
from kms import KmsDirectory
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("cdh.sealed")


@dataclass(frozen=True, slots=True)
class Unsealer:
    """Opens sealed secrets.

    ``verifier`` is None only where the configuration says ``skip_sealed_secret_verification``:
    header and signature are then not looked at, and every use is logged at warning. ``resources``
    keeps the policy by itself; here it is about providers and what lies with them.
    """

    resources: ResourceSource
    verifier: SignatureVerifier | None
    kms: KmsDirectory = field(default_factory=KmsDirectory)
    policy: SecretPolicy = ALLOW_ALL

    async def unseal(self, data: bytes) -> Secret:
        """Return the value. Waits for the key broker within the caller's deadline.

        Raises :class:`~cdh.errors.SealedSecretError`, :class:`~cdh.errors.SecretPolicyError`, or
        what the resource source raises.
        The payload is parsed only after the signature holds.
        """
        text = parse_sealed_text(data)
        if self.verifier is None:
            log.warning("sealed secret not verified", reason="skip_sealed_secret_verification")
        else:
            await self.verifier.verify(text)
        match parse_payload(decode_section("payload", text.payload)):
            case VaultPayload() as vault:
                self.policy.require_provider(vault.provider)
                if vault.provider.lower() != KBS:
                    self.policy.require_kms_secret(vault.name)
                return await fetch_vault(vault, self.resources, self.kms)
            case EnvelopePayload() as envelope:
                self.policy.require_provider(envelope.provider)
                self.policy.require_kms_key(envelope.key_id)
                return await open_envelope(envelope, self.kms)
            case unknown:
                assert_never(unknown)
