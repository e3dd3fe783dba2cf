"""Is MRCONFIGID that of the initdata document? If not: algorithm, padding, bytes, or another one.

The digest covers the delivered bytes. Source: kata-containers initdata, trustee
``verifier/src/tdx`` and guest-components ``attester/src/tdx`` (both fill up with zeros or cut).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from explain.finding import Code, Finding, Severity
from tdx.errors import InitdataError
from tdx.initdata import MRCONFIGID_BYTES, Initdata

ALGORITHMS: Final = ("sha256", "sha384", "sha512")


def explain_initdata(
    mr_config_id: bytes, document: bytes | None, *, sent: bool
) -> Iterator[Finding]:
    """Yield why a KBS would refuse, or not look at, the initdata of this TD.

    ``sent`` says whether the request carries the document: if not, a KBS compares nothing.
    """
    if document is None:
        if any(mr_config_id):
            yield _not_sent(mr_config_id)
        return
    severity = Severity.REFUSAL if sent else Severity.WARNING
    try:
        initdata = Initdata.of_document(document)
    except InitdataError as error:
        yield _unreadable(error, severity)
        return
    if mr_config_id != initdata.as_register():
        yield _difference(mr_config_id, document, initdata, severity)
    elif not sent:
        yield _not_sent(mr_config_id)


def _difference(got: bytes, document: bytes, initdata: Initdata, severity: Severity) -> Finding:
    algorithm = initdata.algorithm
    if not any(got):
        code, found, advice = _ZERO
    elif other := _other_algorithm(got, document, algorithm):
        code = Code.INITDATA_ALGORITHM
        found = f"MRCONFIGID was made with {other}, the document names {algorithm}"
        advice = f"start the TD with the {algorithm} digest, or name {other} in the document"
    elif placed := _other_placement(got, initdata.digest):
        code = Code.INITDATA_PADDING
        found = f"MRCONFIGID holds the right digest in the wrong form: {placed}"
        advice = "fill the digest up with zero bytes on the right, or cut it, to 48 bytes"
    elif changed := _other_bytes(got, document, initdata):
        code = Code.INITDATA_BYTES
        found = f"MRCONFIGID is the digest of this document {changed}"
        advice = "hash and deliver the same bytes: no editor, template or transfer in between"
    else:
        code, found, advice = _OTHER
    expected = initdata.as_register().hex()
    return Finding(code, severity, found, advice, f"{algorithm} {expected}", got.hex())


_ZERO: Final = (
    Code.INITDATA_ZERO,
    "MRCONFIGID is zero: the TD was started without a digest of initdata, so nothing binds it",
    "let the runtime pass the digest to the hypervisor (mrconfigid of QEMU's tdx-guest object)",
)
_OTHER: Final = (
    Code.INITDATA_MISMATCH,
    "MRCONFIGID is the digest of another initdata document",
    (
        "compare the document with the one in the pod's annotation; if it is the same there, "
        "the host replaced it on its way into the guest"
    ),
)


def _other_algorithm(got: bytes, document: bytes, algorithm: str) -> str:
    others = (name for name in ALGORITHMS if name != algorithm)
    return next(
        (
            name
            for name in others
            if Initdata(name, hashlib.new(name, document).digest()).as_register() == got
        ),
        "",
    )


def _other_placement(got: bytes, digest: bytes) -> str:
    placements = {
        "zeros on the left": digest.rjust(MRCONFIGID_BYTES, b"\0"),
        "byte order reversed": digest[::-1],
        "its hexadecimal text": digest.hex().encode(),
        "its base64 text": base64.b64encode(digest),
        "its last 48 bytes": digest[-MRCONFIGID_BYTES:],
    }
    cut = {
        name: value[:MRCONFIGID_BYTES].ljust(MRCONFIGID_BYTES, b"\0")
        for name, value in placements.items()
    }
    return next((name for name, value in cut.items() if value == got), "")


def _other_bytes(got: bytes, document: bytes, initdata: Initdata) -> str:
    variants = {
        "without its final line end": document.rstrip(b"\r\n"),
        "with one more line end": document + b"\n",
        "with LF line ends": document.replace(b"\r\n", b"\n"),
        "with CRLF line ends": document.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        "without white space around it": document.strip(),
    }
    for name, text in variants.items():
        digest = hashlib.new(initdata.algorithm, text).digest()
        if replace(initdata, digest=digest).as_register() == got:
            return name
    return ""


def _not_sent(mr_config_id: bytes) -> Finding:
    return Finding(
        Code.INITDATA_NOT_SENT,
        Severity.NOTE,
        "this TD was started with initdata, and the request does not carry the document: a KBS "
        "compares nothing",
        "to have initdata judged, send it, or let a policy look at the claim init_data",
        got=mr_config_id.hex(),
    )


def _unreadable(error: InitdataError, severity: Severity) -> Finding:
    return Finding(
        Code.INITDATA_MISMATCH,
        severity,
        f"the initdata document cannot be read: {error.problem}",
        error.hint or "write a document of version 0.1.0",
    )
