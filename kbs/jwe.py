"""Opening the two kinds of JWE that a Key Broker Service sends.

Flattened JSON serialisation of RFC 7516 7.2.2 as KBS protocol 0.2.0 and later use it: A256GCM
content, a single recipient, everything in the protected header. And what protocol 0.1.x calls by
the same name: the header's JSON text itself, the tag at the end of the ciphertext, nothing
authenticated beside it, and ``RSA1_5`` only. Parsing, which needs no key and may say what is
wrong, is apart from opening, which fails in one way only. Whatever the KBS never sends (``crit``,
``zip``, ``apu``, ``apv``, unprotected headers, ``aad``) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kbs.errors import JweError, JweFormatError
from kbs.peer_json import PeerTextError, decode_base64url, decode_object
from kbs.tee_key import RSA1_5, TeeKey
from secrecy import Secret

A256GCM: Final = "A256GCM"
IV_BYTES: Final = 12  # RFC 7518 5.3
TAG_BYTES: Final = 16
MAX_PROTECTED_CHARACTERS: Final = 4096  # a P-521 header has about 300, an ML-KEM one 2000
MAX_ENCRYPTED_KEY_BYTES: Final = 1024  # RSA 8192
# Room for everything around the ciphertext; callers size their body limit with it.
MAX_ENVELOPE_CHARACTERS: Final = 8192

# Unknown members are ignored, as RFC 7516 4 and 7.2.1 demand; these are known, would change what
# decryption means, and a KBS never sends them.
_REFUSED_MEMBERS: Final = frozenset({"header", "unprotected", "recipients", "aad"})
_REFUSED_HEADER_MEMBERS: Final = frozenset({"crit", "zip", "apu", "apv"})


@dataclass(frozen=True, slots=True)
class JweEnvelope:
    """A parsed JWE: lengths and names are right, nothing is authenticated yet."""

    alg: str
    epk: dict[str, object] | None
    ek: str | None
    encrypted_key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)
    tag: bytes = field(repr=False)
    additional_data: bytes = field(repr=False)


def parse_jwe(body: bytes) -> JweEnvelope:
    """Read a resource answer. Raises :class:`~kbs.errors.JweFormatError` saying what is wrong."""
    try:
        members = decode_object(body)
    except PeerTextError as error:
        raise JweFormatError(str(error)) from None
    refused = members.keys() & _REFUSED_MEMBERS
    if refused:
        raise JweFormatError(f"member {min(refused)!r} is not accepted")
    protected = _text(members, "protected")
    if len(protected) > MAX_PROTECTED_CHARACTERS:
        raise JweFormatError("the protected header is too long")
    # kbs-types up to 0.7: a base64url text cannot begin with a brace.
    legacy = protected.startswith("{")
    # A lone surrogate, which JSON can spell, is then found to be no UTF-8.
    text = protected.encode("utf-8", "surrogatepass") if legacy else _decode("protected", protected)
    alg, epk, ek = _parse_header(text)
    ciphertext, tag = _legacy_content(members, alg) if legacy else _content(members)
    envelope = JweEnvelope(
        alg=alg,
        epk=epk,
        ek=ek,
        encrypted_key=_decode("encrypted_key", _text(members, "encrypted_key")),
        iv=_decode("iv", _text(members, "iv")),
        ciphertext=ciphertext,
        tag=tag,
        # RFC 7516 5.2 step 15: the header's text as received. The reference client re-serialises
        # the header instead and so fails on servers that order its members differently.
        additional_data=b"" if legacy else protected.encode("ascii"),
    )
    if len(envelope.iv) != IV_BYTES or len(envelope.tag) != TAG_BYTES:
        raise JweFormatError(f"expected an iv of {IV_BYTES} bytes and a tag of {TAG_BYTES}")
    if len(envelope.encrypted_key) > MAX_ENCRYPTED_KEY_BYTES:
        raise JweFormatError("the encrypted key is too long")
    return envelope


def _content(members: dict[str, object]) -> tuple[bytes, bytes]:
    return (
        _decode("ciphertext", _text(members, "ciphertext")),
        _decode("tag", _text(members, "tag")),
    )


def _legacy_content(members: dict[str, object], alg: str) -> tuple[bytes, bytes]:
    if alg != RSA1_5:
        raise JweFormatError(f"the form of protocol 0.1 goes with {RSA1_5} only")
    if _text(members, "tag"):
        raise JweFormatError("the form of protocol 0.1 has its tag in the ciphertext")
    sealed = _decode("ciphertext", _text(members, "ciphertext"))
    return sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]


def open_jwe(envelope: JweEnvelope, key: TeeKey) -> Secret:
    """Decrypt and authenticate. Raises :class:`~kbs.errors.JweError`, the same for every cause."""
    content_key = key.unwrap(envelope.alg, envelope.epk, envelope.encrypted_key, ek=envelope.ek)
    try:
        content = AESGCM(content_key).decrypt(
            envelope.iv, envelope.ciphertext + envelope.tag, envelope.additional_data
        )
    except InvalidTag:
        raise JweError from None
    return Secret(content)


def _parse_header(text: bytes) -> tuple[str, dict[str, object] | None, str | None]:
    try:
        header = decode_object(text)
    except PeerTextError as error:
        raise JweFormatError(f"protected header: {error}") from None
    refused = header.keys() & _REFUSED_HEADER_MEMBERS
    if refused:
        raise JweFormatError(f"header member {min(refused)!r} is not accepted")
    alg, enc = header.get("alg"), header.get("enc")
    epk, ek = header.get("epk"), header.get("ek")
    if not isinstance(alg, str):
        raise JweFormatError("the header has no alg")
    if enc != A256GCM:
        raise JweFormatError(f"enc must be {A256GCM}")
    if epk is not None and not isinstance(epk, dict):
        raise JweFormatError("epk is not an object")
    if ek is not None and not isinstance(ek, str):
        raise JweFormatError("ek is not a string")
    return alg, epk, ek


def _text(members: dict[str, object], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise JweFormatError(f"member {name!r} is missing or not a string")
    return value


def _decode(name: str, text: str) -> bytes:
    try:
        return decode_base64url(text)
    except PeerTextError as error:
        raise JweFormatError(f"member {name!r}: {error}") from None
