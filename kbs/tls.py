"""How the KBS is authenticated: trust anchors from configuration, nothing from the environment."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from kbs.errors import KbsTlsError

MAX_CA_PEM_CHARACTERS: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KbsTls:
    """Trust anchors for ``https``: the system's roots, and those in ``ca_pem`` if it is given.

    Both together is what guest-components does with ``kbs_cert``; with ``system_roots`` off only
    ``ca_pem`` counts. There is no way to skip verification and no client certificate.
    """

    ca_pem: str | None = None
    system_roots: bool = True

    def context(self) -> ssl.SSLContext:
        """Build the TLS context. Raises :class:`~kbs.errors.KbsTlsError` for unusable PEM.

        Not ``ssl.create_default_context``: that one obeys ``SSLKEYLOGFILE`` and would write
        session keys to a file that the environment names.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.system_roots:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.ca_pem is not None:
            self._load_ca(context, self.ca_pem)
        elif not self.system_roots:
            raise KbsTlsError(
                "no trust anchors at all", hint="give a CA certificate or allow the system's roots"
            )
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


def tls_hint(error: BaseException) -> str:
    """Return what to do about a failed TLS connection."""
    text = str(error)
    if "Hostname mismatch" in text or "IP address mismatch" in text:
        return "the KBS's certificate is for another name; use that name in the URL"
    if "expired" in text or "not yet valid" in text:
        return "the KBS's certificate is out of date, or the guest's clock is wrong"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "set the KBS's CA certificate (kbs_cert), or check that nobody is in between"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return "the server does not speak TLS on this port; see whether the URL should be http://"
    return "see which TLS versions and ciphers the KBS accepts; this guest takes TLS 1.2 and 1.3"
