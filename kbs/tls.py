"""How the KBS is authenticated: trust anchors from configuration, nothing from the environment."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from dataclasses import dataclass
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from kbs.errors import KbsTlsError

MAX_CA_PEM_CHARACTERS: Final = 1024 * 1024
_PIN: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
NOT_PINNED: Final = "KEY_NOT_PINNED"
# Inode, size and time of change of the file and of the directory of the system's roots.
_RootsMark: TypeAlias = tuple[tuple[int, int, int] | None, ...]
_SEEN_KEY: Final = re.compile(f"{NOT_PINNED}: ([a-z0-9 ]{{1,64}})", re.ASCII)


def spki_pin(certificate_der: bytes) -> str:
    """Return the hexadecimal SHA-256 of a certificate's SubjectPublicKeyInfo.

    Raises ``ValueError`` or ``cryptography``'s ``UnsupportedAlgorithm`` for bytes that are no
    certificate, or one with an unknown kind of key.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509 import load_der_x509_certificate

    key = load_der_x509_certificate(certificate_der).public_key()
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


class _PinnedContext(ssl.SSLContext):
    """A context that remembers which keys are good."""

    pins: frozenset[str] = frozenset()


class _PinnedObject(ssl.SSLObject):
    """Ends the TLS handshake with an error unless the peer proved to have a pinned key.

    In the handshake itself, so that not a byte of a request can go out before.
    """

    def do_handshake(self) -> None:
        super().do_handshake()
        pins = self.context.pins if isinstance(self.context, _PinnedContext) else frozenset()
        certificate = self.getpeercert(binary_form=True)
        try:
            pin = "" if certificate is None else spki_pin(certificate)
        except Exception as error:  # a key that cannot be read is no pinned one
            raise _not_pinned("unreadable certificate") from error
        if pin not in pins:
            raise _not_pinned(pin or "no certificate")


@dataclass(frozen=True, slots=True)
class KbsTls:
    """Trust anchors for ``https``: the system's roots, and those in ``ca_pem`` if it is given.

    Both together is what guest-components does with ``kbs_cert``; with ``system_roots`` off only
    ``ca_pem`` counts. ``pins`` are SHA-256 digests, in hexadecimal, of the SubjectPublicKeyInfo
    (RFC 7469 2.4) that the KBS's own certificate may have. Pins alone decide alone: issuer, name
    and dates do not count then. With ``ca_pem`` beside them, both must hold. There is no way to
    skip verification and no client certificate.
    """

    ca_pem: str | None = None
    system_roots: bool = True
    pins: frozenset[str] = frozenset()

    def context(self) -> ssl.SSLContext:
        """Return the TLS context, which is not to be changed: equal values share one.

        Reading the system's roots takes 20 ms, so it is done anew only when nobody uses the
        context any more or the system has others. Raises :class:`~kbs.errors.KbsTlsError` for
        unusable PEM. Blocks.
        """
        key = (self, _system_roots_mark())
        context = _in_use.get(key)
        if context is None:
            context = _in_use[key] = self._build()
        return context

    def _build(self) -> ssl.SSLContext:
        """Not by ``ssl.create_default_context``: that one obeys ``SSLKEYLOGFILE`` and would write
        session keys to a file that the environment names.
        """
        context = self._pinning() if self.pins else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.pins and self.ca_pem is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the key is the anchor; see _PinnedObject
            return context
        if self.system_roots:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.ca_pem is not None:
            self._load_ca(context, self.ca_pem)
        elif not self.system_roots:
            raise KbsTlsError(
                "no trust anchors at all", hint="give a CA certificate or allow the system's roots"
            )
        return context

    def _pinning(self) -> ssl.SSLContext:
        for pin in self.pins:
            if not _PIN.fullmatch(pin):
                raise KbsTlsError(
                    f"{pin[:80]!r} is no pin",
                    hint="64 hexadecimal digits: SHA-256 of the public key's SubjectPublicKeyInfo",
                )
        context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.pins = frozenset(pin.lower() for pin in self.pins)
        context.sslobject_class = _PinnedObject
        return context

    @staticmethod
    def _load_ca(context: ssl.SSLContext, ca_pem: str) -> None:
        try:
            if len(ca_pem) > MAX_CA_PEM_CHARACTERS:
                raise ValueError("longer than 1 MiB")
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise KbsTlsError(
                "the CA certificate given for the KBS is not usable PEM",
                hint="it must hold at least one BEGIN CERTIFICATE block, as text and not as a path",
            ) from error


# Weak, so that a context, with the roots it has read, ends with the last client that uses it.
_in_use: Final[WeakValueDictionary[tuple[KbsTls, _RootsMark], ssl.SSLContext]] = (
    WeakValueDictionary()
)


def _system_roots_mark() -> _RootsMark:
    """Return what is another value once the system's roots were replaced, added to or reduced."""
    places = ssl.get_default_verify_paths()
    return _mark(places.cafile), _mark(places.capath)


def _mark(path: str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        status = os.stat(path)
    except FileNotFoundError:  # gone since it was looked for
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _not_pinned(seen: str) -> ssl.SSLError:
    return ssl.SSLError(ssl.SSL_ERROR_SSL, f"{NOT_PINNED}: {seen}")


def tls_hint(error: BaseException) -> str:
    """Return what to do about a failed TLS connection."""
    text = str(error)
    if found := _SEEN_KEY.search(text):
        return f"the KBS has a key that is not pinned ({found[1]}); see that nobody is in between"
    if "Hostname mismatch" in text or "IP address mismatch" in text:
        return "the KBS's certificate is for another name; use that name in the URL"
    if "expired" in text or "not yet valid" in text:
        return "the KBS's certificate is out of date, or the guest's clock is wrong"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "set the KBS's CA certificate (kbs_cert), or check that nobody is in between"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return "the server does not speak TLS on this port; see whether the URL should be http://"
    return "see which TLS versions and ciphers the KBS accepts; this guest takes TLS 1.2 and 1.3"
