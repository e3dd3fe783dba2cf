"""A quote and the logs that belong to it, as the evidence JSON of Confidential Containers. No I/O.

Source: guest-components attestation-agent ``attester/src/tdx`` (members ``quote`` and
``cc_eventlog``).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec

from secrecy.journal import get_logger
from tdx.ccel import joined_log, parse_ccel
from tdx.eventlog import Event, encode_event, parse_events
from tdx.quote import Quote
from tdx.replay import Replay, replay, rtmr_of

log = get_logger("agent")


class _Evidence(msgspec.Struct):
    cc_eventlog: str | None
    quote: str


def evidence_json(quote: Quote, boot: bytes | None, records: bytes | None) -> bytes:
    """Return the evidence for a quote.

    ``boot`` is the boot log area, ``records`` the agent's own records read *after* the quote was
    taken; records of later events are left out, since the quote cannot vouch for them. Raises
    :class:`~tdx.errors.EventLogError` if a log does not parse: evidence without its log would
    look like a TD that measured nothing.
    """
    covered = None if records is None else _covered(quote, boot, records)
    cc_eventlog = joined_log(boot, covered)
    return msgspec.json.encode(
        _Evidence(
            cc_eventlog=None if cc_eventlog is None else base64.b64encode(cc_eventlog).decode(),
            quote=base64.b64encode(quote.raw).decode(),
        )
    )


def _covered(quote: Quote, boot: bytes | None, records: bytes) -> bytes:
    """Return the longest run of records, from the first on, that the quote's registers show.

    If none fits, somebody else extended a register. Everything is returned then: the verifier
    refuses, and its comparison shows where.
    """
    events = parse_events(records)
    registers = sorted({event.register for event in events})
    state = replay(parse_ccel(boot).events) if boot is not None else Replay()
    count = _fitting(quote, state, events, registers)
    if count is None:
        log.warning("event log does not fit the quote", registers=registers, events=len(events))
        return records
    return b"".join(encode_event(event) for event in events[:count])


def _fitting(
    quote: Quote, state: Replay, events: Sequence[Event], registers: Sequence[int]
) -> int | None:
    fitting = None
    for count in range(len(events) + 1):
        if count:
            state.apply(events[count - 1])
        if all(state.value(r) == quote.body.rtmrs[rtmr_of(r)] for r in registers):
            fitting = count
    return fitting
