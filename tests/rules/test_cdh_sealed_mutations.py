"""Any change of a signed secret is refused, before its payload is looked at.

What is no change: the prefix, absent or repeated, and one line end. The sections in between are
signed as text, so that nothing in them has a second form. (Of a signature (r, s), (r, n - s) holds
too: who has the one can make the other, for the same payload.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.errors import SealedFormatError, SealedKmsError, SealedSecretError
from cdh.sealed.keys import SigningKeys
from cdh.sealed.seal import Signer, generate_signing_key, held_payload, vault_payload
from cdh.sealed.signature import SignatureVerifier
from cdh.sealed.textual import SealedText, parse_sealed_text
from cdh.sealed.unseal import Unsealer
from kbs import ResourceUri
from secrecy import Secret

KID = "kbs:///default/signing-key/1"
SIGNER = generate_signing_key(KID)
OTHER = generate_signing_key(KID)


def signed(key: Secret, **settings: str) -> bytes:
    payload = (
        held_payload("database", "aliyun", settings, {})
        if settings
        else vault_payload("kbs:///default/db/password")
    )
    return Signer(KID, key).sign(payload).encode()


VAULT = signed(SIGNER.private_jwk)
HELD = signed(SIGNER.private_jwk, client_type="ecs_ram_role")


@dataclass
class AnyKey:
    """Gives the right key for whatever is asked, so that only the signature can refuse."""

    asked: list[str] = field(default_factory=list)

    async def get(self, uri: ResourceUri) -> Secret:
        self.asked.append(str(uri))
        return Secret(SIGNER.public_jwk)


def sections(text: bytes) -> SealedText | None:
    try:
        return parse_sealed_text(text)
    except SealedFormatError:
        return None


async def require_refused(original: bytes, changed: bytes) -> None:
    """Unless it is the same signed text, ``changed`` is refused and only a key was asked for."""
    if sections(changed) == sections(original):
        return
    source = AnyKey()
    unsealer = Unsealer(source, SignatureVerifier(SigningKeys(source, Path("/nonexistent"))))
    with pytest.raises(SealedSecretError) as caught:
        await unsealer.unseal(changed)
    assert not isinstance(caught.value, SealedKmsError)  # that is after the signature
    assert len(source.asked) <= 1
    assert len(str(caught.value)) < 700


def changes_at(text: bytes, at: int) -> Iterator[bytes]:
    before, byte, after = text[:at], text[at], text[at + 1 :]
    for bit in range(8):
        yield before + bytes([byte ^ (1 << bit)]) + after
    yield before + after
    for inserted in (b"A", b".", b"=", b"\n", b" ", bytes([byte])):
        yield before + inserted + text[at:]
    yield before  # cut short


@pytest.mark.parametrize("original", [VAULT, HELD], ids=["vault", "held by a KMS"])
async def test_every_byte(original: bytes) -> None:
    for at in range(len(original)):
        for changed in changes_at(original, at):
            await require_refused(original, changed)


@given(st.data())
async def test_any_piece_replaced(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(VAULT)))
    end = data.draw(st.integers(start, min(len(VAULT), start + 40)))
    piece = data.draw(st.one_of(st.binary(max_size=40), st.sampled_from(HELD.split(b"."))))
    await require_refused(VAULT, VAULT[:start] + piece + VAULT[end:])


async def test_sections_of_two_signed_secrets_do_not_mix() -> None:
    vault, held = VAULT.split(b"."), HELD.split(b".")
    await require_refused(VAULT, b".".join([*vault[:2], held[2], vault[3]]))
    await require_refused(VAULT, b".".join([*vault[:3], held[3]]))


async def test_another_signer_is_refused() -> None:
    await require_refused(VAULT, signed(OTHER.private_jwk))


async def test_what_is_no_change_opens() -> None:
    for text in (VAULT, VAULT + b"\n", b"sealed." + VAULT, VAULT.removeprefix(b"sealed.")):
        assert sections(text) == sections(VAULT)
        source = AnyKey()
        keys = SigningKeys(source, Path("/nonexistent"))
        await Unsealer(source, SignatureVerifier(keys)).unseal(text)
        assert source.asked == [KID, "kbs:///default/db/password"]
