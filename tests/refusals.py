"""Refusals to explain: bundles around mock quotes, each wrong in one way.

Used by the tests of ``explain`` and by the generator of ``docs/attestation.md``. Evidence, keys and
collateral come from the harness's own authority, so nothing here is made with the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
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


Maker = Callable[[], dict[str, bytes]]


@dataclass(frozen=True)
class Refusal:
    """One way to be refused: what was done, the parts, and the code that says so."""

    title: str
    done: str
    code: str
    make: Maker
    says: tuple[str, ...] = ()
    also: frozenset[str] = frozenset()  # codes that may stand beside it


def _handshakes() -> list[dict[str, object]]:
    return [{"nonce": OTHER_NONCE, "tee-pubkey": OTHER_KEY}]


REFUSALS: Final = (
    Refusal(
        "A debug TD",
        "The TD was started with `debug=on`.",
        "debug-td",
        lambda: Guest(td=debug_td()).parts(),
        ("host can read and change it",),
    ),
    Refusal(
        "The quote answers another nonce",
        "The quote of an earlier handshake was sent again. `handshakes.json` lists the nonces and "
        "keys of the other handshakes.",
        "report-data-nonce",
        lambda: Guest(report_data=report_data(OTHER_NONCE)).parts(handshakes=_handshakes()),
        (OTHER_NONCE, NONCE),
    ),
    Refusal(
        "The quote is bound to another key",
        "The public key in the request was replaced on the way.",
        "report-data-key",
        lambda: Guest(report_data=report_data(key=OTHER_KEY)).parts(handshakes=_handshakes()),
        ("secrets encrypted to a key of its own",),
    ),
    Refusal(
        "Another hash algorithm",
        "The guest hashed nonce and key with SHA-256; the challenge selected nothing, which means "
        "SHA-384.",
        "report-data-hash",
        lambda: Guest(report_data=report_data(algorithm="sha256")).parts(),
        ("sha256", "sha384"),
    ),
    Refusal(
        "The hash of another protocol version",
        "The guest hashed as protocol 0.2.0 does, without `additional-evidence`.",
        "report-data-protocol",
        lambda: Guest(report_data=bound({"nonce": NONCE, "tee-pubkey": KEY})).parts(),
        ("0.4.0",),
    ),
    Refusal(
        "The protocol version itself",
        "The KBS is of an older release. It answered `/auth`, so it never saw evidence.",
        "protocol-version",
        lambda: Guest().parts(
            attest_request=None,
            kbs_answer={
                "type": PROBLEM + "AttestationError",
                "detail": "Attestation error: RCAR handshake Auth failed: KBS Client Protocol "
                "Version Mismatch: expect =0.2.0 while the request is 0.4.0",
            },
        ),
        ("0.2.0",),
    ),
    Refusal(
        "MRCONFIGID made with another algorithm",
        "The initdata document names SHA-384, the runtime hashed it with SHA-256.",
        "initdata-algorithm",
        lambda: Guest(td=with_mrconfigid(digest48("sha256")), initdata=INITDATA).parts(),
        ("made with sha256", "names sha384"),
    ),
    Refusal(
        "MRCONFIGID is zero",
        "The runtime delivered initdata and did not bind it.",
        "initdata-zero",
        lambda: Guest(initdata=INITDATA).parts(),
        ("nothing binds it",),
    ),
    Refusal(
        "Another kernel command line",
        "The guest booted with `init=/bin/sh`. With the log of a good boot, the first event that "
        "differs has a name.",
        "rtmr-differs",
        lambda: Guest(td=other_boot(command_line="console=hvc0 init=/bin/sh")).parts(),
        ("RTMR2", "first difference at its event 1", "kernel command line"),
    ),
    Refusal(
        "A register extended behind the log",
        "A program of the guest extended RTMR3 and wrote no event.",
        "event-log-replay",
        lambda: Guest(td=extended_behind_the_log()).parts(),
        ("RTMR3", "does not write to this log"),
    ),
    Refusal(
        "A log that was cut",
        "The last two events of the boot log are missing.",
        "event-log-behind",
        lambda: Guest(log=cut_log(TdState.booted(), drop=2)).parts(),
        ("RTMR2", "initrd"),
    ),
    Refusal(
        "Unknown firmware",
        "The host's firmware package was updated; nobody registered the new MRTD.",
        "mr-td-unknown",
        lambda: Guest(td=tampered("mrtd")).parts(),
        ("firmware",),
    ),
    Refusal(
        "A platform that is out of date",
        "Collateral knows a newer TCB level than the host has.",
        "tcb-status",
        lambda: Guest(pki=MockPki.create(now=NOW, tcb_status="OutOfDate")).parts(),
        ("OutOfDate",),
    ),
    Refusal(
        "Collateral past its date",
        "The verifier's cache was not refreshed for 45 days.",
        "collateral-expired",
        lambda: Guest(clock=NOW.timestamp() + 45 * 86400).parts(),
        ("days before the guest's clock",),
    ),
    Refusal(
        "A clock that was never set",
        "The guest started in 1970.",
        "clock-wrong",
        lambda: Guest(clock=3600.0).parts(),
        ("never set",),
    ),
    Refusal(
        "A mock quote at a production verifier",
        "No trusted root was given, so Intel's counts.",
        "root-unknown",
        lambda: Guest().parts(trusted_root=None),
        ("mock quote",),
    ),
    Refusal(
        "A trust vector that warns",
        "Attested, with reference values that know neither firmware nor kernel. The token's claims "
        "carry numbers; here they are words.",
        "trust-vector",
        lambda: Guest().parts(
            kbs_answer=None,
            attest_request=None,
            token_claims=token_claims(UNKNOWN_VECTOR, claims(unknown_td())),
        ),
        ("hardware is 97, contraindicated", "executables is 33, warning", "rtmr_1"),
    ),
    Refusal(
        "A resource policy says no",
        "Attested, and the policy wants an affirming token.",
        "policy-denied",
        lambda: Guest().parts(
            attest_request=None,
            kbs_answer=DENIED,
            token_claims=token_claims(UNKNOWN_VECTOR, claims(TdState.booted(), "OutOfDate")),
            resource_policy=AFFIRMING_POLICY.encode(),
        ),
        ("kbs:///default/key/1", "ear.status = contraindicated"),
        also=frozenset({"trust-vector"}),
    ),
    Refusal(
        "The KBS was not reached",
        "Nothing listens at the address.",
        "kbs-unreachable",
        lambda: Guest().parts(
            attest_request=None,
            kbs_answer={"outcome": "unreachable", "message": "no connection (refused)"},
        ),
        ("no attestation problem",),
    ),
    Refusal(
        "The KBS's certificate is of another CA",
        "The guest was given the wrong CA file.",
        "kbs-tls",
        lambda: Guest().parts(
            attest_request=None,
            kbs_answer={"outcome": "tls", "message": "certificate of an unknown issuer"},
        ),
        ("no attestation problem",),
    ),
)
