"""Is what an authentic quote says acceptable? Each rule names itself when it refuses.

Order as in Trustee's TDX verifier: report data, MRCONFIGID, event log; the reference values that an
operator registered come last. The debug rule stands first: in a debug TD no field means anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mocktee.kbs.authenticate import PlatformStatus
from mocktee.kbs.encoding import canonical_json
from mocktee.kbs.errors import EvidenceRefusedError
from mocktee.kbs.eventlog import LoggedEvent, replay
from mocktee.kbs.initdata import InitDataDigest
from mocktee.kbs.messages import Attestation
from mocktee.kbs.quote import Quote
from mocktee.kbs.references import TCB_STATUS, ReferenceValues


def expected_digest(attestation: Attestation) -> bytes:
    """Return the SHA-384 that primary evidence has to carry, by the binding of its protocol."""
    return hashlib.sha384(attestation.bound_bytes()).digest()


def expected_device_digest(attestation: Attestation) -> bytes:
    """Return the SHA-384 that evidence of each device has to carry (KBS protocol 0.4.0)."""
    return hashlib.sha384(canonical_json(attestation.device_data())).digest()


def judge_debug(quote: Quote) -> None:
    """Refuse a TD that its host can read."""
    if quote.debug:
        raise EvidenceRefusedError("td_attributes: the TD runs in debug mode")


def judge_binding(quote: Quote, attestation: Attestation) -> None:
    """Refuse a quote that was made for another nonce or another TEE key."""
    expected = expected_digest(attestation).ljust(64, b"\0")
    got = quote.body["report_data"]
    if got != expected:
        raise EvidenceRefusedError(
            "report data does not bind nonce and TEE key: "
            f"got {got.hex()}, expected {expected.hex()}"
        )


def judge_init_data(quote: Quote, init_data: InitDataDigest | None) -> None:
    """Refuse initdata that the TD was not started with; without initdata nothing is compared."""
    if init_data is None:
        return
    got = quote.body["mr_config_id"]
    if got != init_data.register():
        raise EvidenceRefusedError(
            "init-data: MRCONFIGID is different from that in TDX Quote: "
            f"got {got.hex()}, expected {init_data.register().hex()}"
        )


def judge_event_log(quote: Quote, events: Sequence[LoggedEvent] | None) -> None:
    """Refuse a log that does not explain all four registers; an absent log explains nothing."""
    if events is None:
        return
    for index, logged in enumerate(replay(events)):
        actual = quote.rtmr(index)
        if actual != logged:
            raise EvidenceRefusedError(
                f"event log replay: RTMR{index} is {actual.hex()}, log says {logged.hex()}"
            )


def judge_reference_values(
    quote: Quote, platform: PlatformStatus, references: ReferenceValues
) -> None:
    """Refuse the first field that has registered values and none of them."""
    for name, expected in references.registered().items():
        if name == TCB_STATUS:
            got = platform.tcb_status
        else:
            field = quote.body.get(name)
            got = "absent" if field is None else field.hex()
        if got not in expected:
            raise EvidenceRefusedError(
                f"reference value {name}: got {got}, expected {' or '.join(expected[:3])}"
            )
