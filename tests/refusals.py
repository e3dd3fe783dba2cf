"""Refusals to explain: bundles, each wrong in one way.

Used by the tests of ``explain`` and by the generator of ``docs/attestation.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mocktee.pki import MockPki
from mocktee.td import TdState
from tests.bundles import (
    AFFIRMING_POLICY,
    DENIED,
    INITDATA,
    KEY,
    NONCE,
    NOW,
    OTHER_KEY,
    OTHER_NONCE,
    PROBLEM,
    UNKNOWN_VECTOR,
    Guest,
    bound,
    claims,
    cut_log,
    debug_td,
    digest48,
    extended_behind_the_log,
    other_boot,
    report_data,
    tampered,
    token_claims,
    unknown_td,
    with_mrconfigid,
)

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
