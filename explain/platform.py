"""Is the quote that of a genuine, current, non-debug TD? What quote, chain and collateral say.

Looked at without verifying: attributes, the root that the chain names, and dates against the
guest's clock. A verdict of ``tdx.verify`` becomes findings in ``verdict.py``. Source: Intel PCS API
version 4 (dates of collateral), Intel SGX provisioning certification root.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from explain.finding import Code, Finding, Severity
from tdx.attributes import UNTRUSTED_BITS
from tdx.errors import CertificateFormatError
from tdx.pck import load_chain
from tdx.quote import Quote
from tdx.verify.collateral import Collateral, Window, utc

# SHA-256 of the SubjectPublicKeyInfo of the Intel SGX Root CA, which production verifiers pin.
INTEL_ROOT_KEY: Final = "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"
EARLIEST_SANE: Final = 1_735_689_600.0  # 2025-01-01: a clock before this was never set
CLOCK_TOLERANCE: Final = 300.0  # seconds between two machines that keep time


def explain_attributes(quote: Quote) -> Iterator[Finding]:
    """Yield what the TD attributes rule out."""
    stored = quote.body.td_attributes
    if quote.body.debug:
        yield Finding(
            Code.DEBUG_TD,
            Severity.REFUSAL,
            "the TD runs in debug mode: its host can read and change it, so nothing it says counts",
            "start the TD without debug (QEMU tdx-guest: no debug=on; libvirt policy bit 0 clear); "
            "Trustee refuses it in its policy, other verifiers at once",
            expected="td_attributes bit 0 clear",
            got=stored.hex(),
        )
    elif int.from_bytes(stored, "little") & UNTRUSTED_BITS:
        yield Finding(
            Code.TD_ATTRIBUTES,
            Severity.REFUSAL,
            "a profiling or reserved attribute is set that makes a TD untrusted",
            "start the TD without profiling attributes",
            expected="td_attributes bits 0 to 7 clear",
            got=stored.hex(),
        )


def explain_root(quote: Quote, trusted: bytes | None) -> Iterator[Finding]:
    """Yield a finding if the chain in the quote ends in another root than the trusted one.

    ``trusted`` is a certificate in DER; Intel's root without it. The certificate in the quote
    is the sender's choice and its name may be right: keys are compared.
    """
    try:
        chain = load_chain(quote.section.pem_chain or b"")
        wanted = (
            INTEL_ROOT_KEY if trusted is None else key_hash(x509.load_der_x509_certificate(trusted))
        )
        got = key_hash(chain[-1])
    except (CertificateFormatError, ValueError, IndexError):
        yield _no_chain()
        return
    if got == wanted:
        return
    by = "Intel's root" if trusted is None else "the trusted root given"
    if mock := _is_mock(chain[-1]):
        advice = (
            "a mock quote is for the mock key broker only: no production verifier may accept it"
        )
    else:
        advice = (
            "this machine is no production TDX platform (or a pre-production one), or somebody "
        )
        advice += "made the quote in software"
    yield Finding(
        Code.ROOT_UNKNOWN,
        Severity.REFUSAL,
        f"the certificate chain ends in a root that is not {by}"
        + (": this is a mock quote" if mock else ", whatever its name says"),
        advice,
        expected=f"root key SHA-256 {wanted}",
        got=got,
    )


def key_hash(certificate: x509.Certificate) -> str:
    """Return SHA-256 over the SubjectPublicKeyInfo, in hex."""
    key = certificate.public_key()
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def _is_mock(root: x509.Certificate) -> bool:
    return re.search(r"\bmock", root.subject.rfc4514_string(), re.IGNORECASE) is not None


def _no_chain() -> Finding:
    return Finding(
        Code.ROOT_UNKNOWN,
        Severity.REFUSAL,
        "the quote carries no certificate chain that can be read",
        "the host's quote generation service must give certification data of type 5 (a PEM chain)",
    )


def explain_dates(
    collateral: Collateral | None,
    clock: float | None,
    token_issued: float | None,
    *,
    whose: str = "the guest's clock",
) -> Iterator[Finding]:
    """Yield what is wrong with a clock, and which collateral is past its date by it.

    ``whose`` names the clock in words.
    """
    if clock is None:
        return
    if (reason := _clock_fault(clock, token_issued)) is not None:
        yield reason
        return  # dates compared with a wrong clock mean nothing
    windows = () if collateral is None else collateral.windows
    for window in windows:
        if clock < window.issued.timestamp():
            why = f"{window.document} of the collateral was issued after it"
            yield _wrong_clock(why, window.issued.timestamp(), clock)
            return
    past = [window for window in windows if clock > window.expires.timestamp()]
    if past:
        yield _expired(past, clock, whose)


def _clock_fault(clock: float, token_issued: float | None) -> Finding | None:
    if clock < EARLIEST_SANE:
        return _wrong_clock("it was never set", EARLIEST_SANE, clock)
    if token_issued is not None and clock < token_issued - CLOCK_TOLERANCE:
        return _wrong_clock("the token was issued after it", token_issued, clock)
    return None


def _wrong_clock(why: str, least: float, clock: float) -> Finding:
    return Finding(
        Code.CLOCK_WRONG,
        Severity.REFUSAL,
        f"the guest's clock is wrong: {why}",
        "set the clock (the host gives it at start; chrony with a PTP or trusted source keeps it); "
        "certificates, collateral and tokens all look invalid until then",
        expected=f"{moment(least)} or later",
        got=moment(clock),
    )


def _expired(past: Sequence[Window], clock: float, whose: str) -> Finding:
    first = min(past, key=lambda window: window.expires)
    days = (clock - first.expires.timestamp()) / 86400
    return Finding(
        Code.COLLATERAL_EXPIRED,
        Severity.REFUSAL,
        f"collateral ended {days:.1f} days before {whose}: "
        + ", ".join(window.document for window in past),
        "refresh the collateral where the verifier gets it (PCCS cache, file://); if it is fresh "
        "there, the clock is ahead",
        expected=f"{utc(first.issued)} to {utc(first.expires)}",
        got=moment(clock),
    )


def moment(seconds: float) -> str:
    """Return unix seconds as RFC 3339, UTC."""
    return utc(datetime.fromtimestamp(seconds, UTC))
