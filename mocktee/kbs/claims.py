"""The claims that a verdict puts into a token, under Trustee's names and in its spelling."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from mocktee.kbs.authenticate import PlatformStatus
from mocktee.kbs.encoding import Json, b64_encode
from mocktee.kbs.eventlog import SHA384, LoggedEvent
from mocktee.kbs.quote import DEBUG_BIT, Quote

SAMPLE_CLAIMS: Final = ("svn", "launch_digest", "platform_version", "debug")
_ATTRIBUTE_BITS = {
    "debug": DEBUG_BIT,
    "septve_disable": 28,
    "protection_keys": 30,
    "key_locker": 31,
    "perfmon": 63,
}


def tdx_claims(
    quote: Quote, platform: PlatformStatus, events: Sequence[LoggedEvent] | None
) -> dict[str, Json]:
    """Return the member ``tdx`` of the annotated evidence."""
    claims: dict[str, Json] = {
        "quote": {
            "header": {name: field.hex() for name, field in quote.header.items()},
            "body": {name: field.hex() for name, field in quote.body.items()},
        },
        "td_attributes": {name: quote.attribute(bit) for name, bit in _ATTRIBUTE_BITS.items()},
        "tcb_status": platform.tcb_status,
        "advisory_ids": list(platform.advisory_ids),
        # dcap-qvl refuses collateral past its date, so what passed it is in date.
        "collateral_expiration_status": "0",
    }
    if events is not None:
        claims["uefi_event_logs"] = [_event_claims(event) for event in events]
    return claims


def _event_claims(event: LoggedEvent) -> dict[str, Json]:
    return {
        "index": event.register,
        "type_name": event.type_name,
        "digests": [
            {"alg": name, "digest": digest.hex()} for name, digest in event.named_digests()
        ],
        "event": b64_encode(event.data),
        "digest_matches_event": event.digest(SHA384) == hashlib.sha384(event.data).digest(),
    }


def sample_claims(svn: str, names: Sequence[str] = SAMPLE_CLAIMS) -> dict[str, Json]:
    """Return the member ``sample`` of the annotated evidence: fixed texts, nothing is measured.

    ``names`` are those that the verifier of the time had.
    """
    claims: dict[str, Json] = {
        "svn": svn,
        "launch_digest": "abcde",
        "platform_version": {"major": 1, "minor": 4},
        "debug": False,
    }
    return {name: claims[name] for name in names}
