"""Bundles for ``explain`` around mock quotes: a good guest, and what can be changed about it.

Evidence, keys and collateral come from the harness's own authority, so nothing here is made with
the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from mocktee.bootlog import BootInputs, BootLog
from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4
from mocktee.td import DEBUG, TdState

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE: Final = "Vaou/NLWfwVLK5Yzkoa6t+v3FYW/QRKUs8sZhkLDIaM="
OTHER_NONCE: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
KEY: Final = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ECDH-ES+A256KW",
    "x": "AUTnZLl2QHDbwOf9Bfky2-uOjM6vO1hqH3ERAWoRFPQ",
    "y": "mSzh1LThNyT5CMmgN7UzbczpAjP85wmKM7iukiCoBhA",
}
OTHER_KEY: Final = KEY | {"x": "mSzh1LThNyT5CMmgN7UzbczpAjP85wmKM7iukiCoBhA"}
INITDATA: Final = b'version = "0.1.0"\nalgorithm = "sha384"\n\n[data]\n"aa.toml" = "x"\n'
END_OF_LOG: Final = b"\xff" * 8
BOOT: Final = BootInputs()
PROBLEM: Final = "https://github.com/confidential-containers/kbs/errors/"
REFUSED: Final = {
    "outcome": "refused",
    "status": 401,
    "type": PROBLEM + "AttestationError",
    "detail": "Attestation error: RCAR handshake Attest failed",
}
DENIED: Final = {
    "outcome": "refused",
    "status": 401,
    "type": PROBLEM + "PolicyDeny",
    "detail": "Access denied by policy",
    "resource": "kbs:///default/key/1",
}
AFFIRMING_POLICY: Final = """package policy
default allow := false
allow if input.submods.cpu0["ear.status"] == "affirming"
"""


def bound(document: Mapping[str, object], algorithm: str = "sha384") -> bytes:
    """Report data over a document, as KBS protocol 0.2.0 and later hash it."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.new(algorithm, text.encode()).digest().ljust(64, b"\0")


def report_data(nonce: str = NONCE, key: object = KEY, algorithm: str = "sha384") -> bytes:
    """Report data of protocol 0.4.0."""
    return bound({"additional-evidence": "", "nonce": nonce, "tee-pubkey": key}, algorithm)


@dataclass(frozen=True)
class Guest:
    """A good guest. :meth:`parts` is its bundle; change one thing at a time."""

    pki: MockPki = field(default_factory=lambda: MockPki.create(now=NOW))
    td: TdState = field(default_factory=TdState.booted)
    report_data: bytes = field(default_factory=report_data)
    log: bytes | None = None  # None: the TD's own
    initdata: bytes | None = None
    clock: float = NOW.timestamp()

    def quote(self) -> bytes:
        return build_quote_v4(self.pki, self.report_data, self.td)

    def event_log(self) -> bytes:
        return self.td.boot_log.encode() + END_OF_LOG if self.log is None else self.log

    def evidence(self) -> dict[str, str | None]:
        log = self.event_log()
        return {
            "quote": base64.b64encode(self.quote()).decode(),
            "cc_eventlog": base64.b64encode(log).decode() if log else None,
        }

    def request(self, nonce: str = NONCE, key: Mapping[str, str] = KEY) -> dict[str, Any]:
        initdata = self.initdata
        return {
            "init-data": None
            if initdata is None
            else {"format": "toml", "body": initdata.decode()},
            "runtime-data": {"nonce": nonce, "tee-pubkey": dict(key)},
            "tee-evidence": {
                "primary_evidence": self.evidence(),
                "additional_evidence": "",
            },
        }

    def references(self) -> dict[str, list[str]]:
        good = TdState.booted()
        return {
            "mr_td": [good.mrtd.hex()],
            **{f"rtmr_{i}": [good.rtmrs[i].hex()] for i in range(3)},
        }

    def root(self) -> bytes:
        return self.pki.certificates["root-ca"].public_bytes(Encoding.PEM)

    def parts(self, **changes: object) -> dict[str, bytes]:
        """The parts of the bundle by name; ``changes`` are by the stem, None removes one."""
        parts: dict[str, object] = {
            "bundle": {"version": 1, "guest_clock_unix": self.clock, "tee": "tdx"},
            "attest_request": self.request(),
            "kbs_answer": REFUSED,
            "reference_values": self.references(),
            "reference_eventlog": TdState.booted().boot_log.encode() + END_OF_LOG,
            "collateral": self.pki.collateral(),
            "trusted_root": self.root(),
        } | changes
        return {
            _file(stem): value if isinstance(value, bytes) else json.dumps(value).encode()
            for stem, value in parts.items()
            if value is not None
        }


def _file(stem: str) -> str:
    endings = {
        "reference_eventlog": ".bin",
        "trusted_root": ".pem",
        "initdata": ".toml",
        "resource_policy": ".rego",
    }
    return stem.replace("_", "-") + endings.get(stem, ".json")


def other_boot(**inputs: Any) -> TdState:
    """A TD that booted something else."""
    return TdState.booted(inputs=replace(BOOT, **inputs))


def token_claims(vector: Mapping[str, int], tdx: Mapping[str, object]) -> dict[str, object]:
    """The payload of an EAR token, in Trustee's form."""
    return {
        "iat": int(NOW.timestamp()) - 10,
        "exp": int(NOW.timestamp()) + 290,
        "submods": {
            "cpu0": {
                "ear.status": "contraindicated" if 97 in vector.values() else "warning",
                "ear.trustworthiness-vector": dict(vector),
                "ear.appraisal-policy-id": "default",
                "ear.veraison.annotated-evidence": {"tdx": dict(tdx)},
            }
        },
    }


def claims(td: TdState, tcb_status: str = "UpToDate") -> dict[str, object]:
    """What Trustee says of a TD, as far as its default policy reads it."""
    return {
        "quote": {
            "body": {
                "mr_td": td.mrtd.hex(),
                "rtmr_1": td.rtmrs[1].hex(),
                "rtmr_2": td.rtmrs[2].hex(),
                "xfam": "e702060000000000",
            }
        },
        "td_attributes": {"debug": False},
        "tcb_status": tcb_status,
        "collateral_expiration_status": "0",
    }


UNKNOWN_VECTOR: Final = {"executables": 33, "configuration": 36, "hardware": 97}


def with_mrconfigid(value: bytes) -> TdState:
    return TdState.booted(mrconfigid=value)


def digest48(algorithm: str, document: bytes = INITDATA) -> bytes:
    return hashlib.new(algorithm, document).digest()[:48].ljust(48, b"\0")


def extended_behind_the_log() -> TdState:
    td = TdState.booted()
    td.extend(3, hashlib.sha384(b"somebody else").digest())
    return td


def tampered(register: str) -> TdState:
    td = TdState.booted()
    td.tamper(register, hashlib.sha384(b"tampered").digest())
    return td


def unknown_td() -> TdState:
    """Other firmware and another kernel."""
    td = other_boot(kernel=b"new")
    td.tamper("mrtd", hashlib.sha384(b"new firmware").digest())
    return td


def debug_td() -> TdState:
    td = TdState.booted()
    td.attributes |= DEBUG
    return td


def cut_log(td: TdState, *, drop: int) -> bytes:
    """The TD's log without its last events."""
    return BootLog(td.boot_log.events[:-drop]).encode() + END_OF_LOG
