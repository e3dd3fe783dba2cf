"""Which register departs from what is expected, and which event made it so.

Three sources that may disagree: the registers in the quote, the event log beside it, and what an
operator calls good (reference values, the log of a good boot). Hashes alone never tell which event
is at fault; a reference log does. Source: UEFI 2.11 section 38.4.1, trustee ``eventlog`` (an absent
log is not compared, a present one must explain all four registers).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from explain.event_words import describe
from explain.finding import Code, Finding, Severity
from explain.reference_values import ReferenceValues, claims_of
from tdx.eventlog import Event
from tdx.quote import Quote
from tdx.replay import REGISTERS, START, extended, rtmr_of

RUNTIME_REGISTER: Final = 4  # RTMR3: only guest software extends it
MAX_SHOWN: Final = 3  # values and events in one text

Log = Sequence[Event]


def explain_log(quote: Quote, log: Log | None, reference: Log | None) -> Iterator[Finding]:
    """Yield each register that the evidence's event log does not explain."""
    if log is None:
        yield _no_log(quote)
        return
    for register in REGISTERS:
        got = quote.body.rtmrs[rtmr_of(register)]
        own = _of(log, register)
        if _replayed(own) != got:
            yield _unexplained(register, got, own, _of(reference or (), register))


def explain_references(
    quote: Quote, log: Log | None, references: ReferenceValues, reference: Log | None
) -> Iterator[Finding]:
    """Yield each field of the quote that has good values and none of them."""
    for name, got in claims_of(quote).items():
        good = references.good(name)
        if not good or got in good:
            continue
        if name.startswith("rtmr_"):
            register = int(name[-1]) + 1
            yield _register_differs(register, got, good, log, reference)
        elif name == "mr_td":
            yield _mr_td(got, good)
        else:
            yield _other_field(name, got, good)


def first_difference(own: Log, reference: Log) -> tuple[int, Event | None, Event | None] | None:
    """Return the first place where two logs of one register differ, or None.

    The place counts from 0; an event is None where a log has ended. Compared are digests: data is
    not authenticated.
    """
    for place, (mine, theirs) in enumerate(zip_longest(own, reference)):
        if mine is None or theirs is None or mine.digest() != theirs.digest():
            return place, mine, theirs
    return None


def _of(log: Log, register: int) -> list[Event]:
    return [event for event in log if event.register == register]


def _replayed(events: Log, start: bytes = START) -> bytes | None:
    """The register after these events, or None if one has no SHA-384 digest."""
    value = start
    for event in events:
        digest = event.digest()
        if digest is None:
            return None
        value = extended(value, digest)
    return value


def _unexplained(register: int, got: bytes, own: Log, reference: Log) -> Finding:
    name = f"RTMR{rtmr_of(register)}"
    replayed = _replayed(own)
    expected = "no SHA-384 digest" if replayed is None else f"replay {replayed.hex()}"
    code, found, advice = (
        _log_ahead(name, got, own)
        or _log_behind(name, got, own, reference)
        or _extended_behind(name, register, own, reference)
    )
    return Finding(code, Severity.REFUSAL, found, advice, expected, got.hex())


Cause = tuple[Code, str, str]


def _log_ahead(name: str, got: bytes, own: Log) -> Cause | None:
    """The quote is older than the end of the log: some first events give its value."""
    for count in range(len(own)):
        if _replayed(own[:count]) == got:
            extra = own[count:]
            return (
                Code.EVENT_LOG_AHEAD,
                (
                    f"the log holds {len(extra)} more events of {name} than the quote covers, "
                    f"from {describe(extra[0])}"
                ),
                (
                    "read the log after the quote and leave out later events; if it happens again, "
                    "an event was logged and never extended"
                ),
            )
    return None


def _log_behind(name: str, got: bytes, own: Log, reference: Log) -> Cause | None:
    """Events are missing at the end of the log, and the reference log has them."""
    for count in range(len(own) + 1, len(reference) + 1):
        missing = reference[len(own) : count]
        if _replayed([*own, *missing]) == got:
            return (
                Code.EVENT_LOG_BEHIND,
                f"the log lacks the last {len(missing)} events of {name}: "
                + "; ".join(describe(event) for event in missing[:MAX_SHOWN]),
                (
                    "the log was cut after the boot: look for what truncates it (a size limit, an "
                    "end mark in the middle, a file that was cleared)"
                ),
            )
    return None


def _extended_behind(name: str, register: int, own: Log, reference: Log) -> Cause:
    if register == RUNTIME_REGISTER:
        what = "has no event of it" if not own else f"explains only its own {len(own)} events"
        return (
            Code.EVENT_LOG_REPLAY,
            f"{name} was extended by somebody who does not write to this log, which {what}",
            (
                "find the other program that extends it (only one may), or see whether the log "
                "directory was cleared while the register kept its value; a new boot resets both"
            ),
        )
    return (
        Code.EVENT_LOG_REPLAY,
        f"replaying the {len(own)} events of {name} does not give the register"
        + (f"; {_where_logs_part(own, reference)}" if reference else ""),
        (
            "the boot log was changed or belongs to another boot; compare with a reference log to "
            "see the first event that differs"
        ),
    )


def _no_log(quote: Quote) -> Finding:
    used = [f"RTMR{i}" for i, value in enumerate(quote.body.rtmrs) if any(value)]
    return Finding(
        Code.EVENT_LOG_ABSENT,
        Severity.WARNING,
        "the evidence has no event log, so nothing tells what made "
        + (", ".join(used) if used else "the registers, which are all zero"),
        "a KBS compares registers with reference values only; give the guest its CCEL table "
        "(/sys/firmware/acpi/tables/data/CCEL)",
    )


def _register_differs(
    register: int, got: str, good: Sequence[str], log: Log | None, reference: Log | None
) -> Finding:
    name = f"RTMR{rtmr_of(register)}"
    if log is None:
        cause = "without an event log nobody can say which event"
    elif _replayed(_of(log, register)) != bytes.fromhex(got):
        cause = "its event log does not replay either, so which event cannot be said"
    elif reference is None:
        cause = "add the event log of a good boot to see the first event that differs"
    else:
        cause = _first_event(_of(log, register), _of(reference, register), good)
    return Finding(
        Code.RTMR_DIFFERS,
        Severity.REFUSAL,
        f"{name} is none of the reference values; {cause}",
        _CHANGED[register],
        _one_of(good),
        got,
    )


_CHANGED: Final = {
    1: "firmware, its variables, ACPI tables or the VM's shape changed (memory, CPUs, devices): "
    "register the new value, or start the VM as before",
    2: "boot loader, kernel image or partition table changed: register the new value, or boot the "
    "image that was registered",
    3: "command line, initrd or boot loader configuration changed: register the new value, or boot "
    "with what was registered",
    4: "what the guest measured at run time differs; events differ between boots, so prefer a "
    "policy on the log to a reference value",
}


def _first_event(own: Log, reference: Log, good: Sequence[str]) -> str:
    expected = _replayed(reference)
    stale = expected is not None and expected.hex() not in good
    note = " (the reference log does not replay to a reference value itself)" if stale else ""
    return _where_logs_part(own, reference) + note


def _where_logs_part(own: Log, reference: Log) -> str:
    difference = first_difference(own, reference)
    if difference is None:
        return "its events are those of the reference log"
    place, mine, theirs = difference
    here, there = (_shown(event) for event in (mine, theirs))
    return f"first difference at its event {place + 1}: got {here}, reference has {there}"


def _shown(event: Event | None) -> str:
    if event is None:
        return "nothing more"
    digest = event.digest()
    return f"{describe(event)} ({'no digest' if digest is None else digest.hex()[:8] + '…'})"


def explain_reference_log(references: ReferenceValues, reference: Log) -> Iterator[Finding]:
    """Yield each register whose reference value is not what the reference log replays to."""
    for register in REGISTERS:
        good = references.good(f"rtmr_{rtmr_of(register)}")
        events = _of(reference, register)
        value = _replayed(events)
        if good and events and (value is None or value.hex() not in good):
            yield Finding(
                Code.REFERENCE_LOG_STALE,
                Severity.NOTE,
                f"the reference log does not give a reference value of RTMR{rtmr_of(register)}",
                "take log and values from the same good boot (cguest reference-values)",
                _one_of(good),
                "nothing" if value is None else value.hex(),
            )


def _mr_td(got: str, good: Sequence[str]) -> Finding:
    return Finding(
        Code.MR_TD_UNKNOWN,
        Severity.REFUSAL,
        "MRTD is none of the reference values: the TD was built from another firmware image",
        "compare the firmware (TDVF) package of the host with the one that was registered; "
        "register the new value if the update was meant",
        _one_of(good),
        got,
    )


def _other_field(name: str, got: str, good: Sequence[str]) -> Finding:
    return Finding(
        Code.REFERENCE_VALUE,
        Severity.REFUSAL,
        f"{name} is none of the reference values",
        f"register the value of {name} if it is meant to be so",
        _one_of(good),
        got,
    )


def _one_of(good: Sequence[str]) -> str:
    shown = " or ".join(good[:MAX_SHOWN])
    return shown if len(good) <= MAX_SHOWN else f"{shown} or {len(good) - MAX_SHOWN} more"
