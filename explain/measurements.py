"""Which register departs from what is expected, and which event made it so.

Three sources that may disagree: the registers in the quote, the event log beside it, and what an
operator calls good (reference values, the log of a good boot). Hashes alone never tell which event
is at fault; a reference log does. Source: UEFI 2.11 section 38.4.1, trustee ``eventlog`` (an absent
log is not compared, a present one must explain all four registers).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from explain.finding import Code, Finding, Severity
from explain.reference_values import ReferenceValues, claims_of
from tdx.log_history import Entry, LogHistory, divergences
from tdx.quote import Quote
from tdx.replay import START, extended

RTMRS: Final = range(4)
RUNTIME_RTMR: Final = 3  # only guest software extends it
MAX_SHOWN: Final = 3  # values and events in one text


def explain_log(
    quote: Quote, log: LogHistory | None, reference: LogHistory | None, text_value: bytes | None
) -> Iterator[Finding]:
    """Yield each register that the evidence's event log does not explain.

    ``text_value`` is RTMR3 after the agent's text log, if the evidence has one.
    """
    if log is None:
        yield _no_log(quote)
        return
    for rtmr in RTMRS:
        got = quote.body.rtmrs[rtmr]
        if log.values[rtmr] == got:
            continue
        if rtmr == RUNTIME_RTMR and text_value == got:
            yield _text_form(log, got)
        else:
            yield _unexplained(rtmr, got, log, reference)


def explain_references(
    quote: Quote,
    log: LogHistory | None,
    references: ReferenceValues,
    reference: LogHistory | None,
) -> Iterator[Finding]:
    """Yield each field of the quote that has good values and none of them."""
    for name, got in claims_of(quote).items():
        good = references.good(name)
        if not good or got in good:
            continue
        if name.startswith("rtmr_"):
            yield _register_differs(int(name[-1]), got, good, log, reference)
        elif name == "mr_td":
            yield _mr_td(got, good)
        else:
            yield _other_field(name, got, good)


def _unexplained(rtmr: int, got: bytes, log: LogHistory, reference: LogHistory | None) -> Finding:
    code, found, advice = (
        _log_ahead(rtmr, got, log)
        or _log_behind(rtmr, got, log, reference)
        or _extended_behind(rtmr, log, reference)
    )
    expected = f"replay {log.values[rtmr].hex()}"
    return Finding(code, Severity.REFUSAL, found, advice, expected, got.hex())


Cause = tuple[Code, str, str]  # code, found, advice
_READ_LATER: Final = (
    "read the log after the quote and leave out later events; if it happens again, an event was "
    "logged and never extended"
)
_WAS_CUT: Final = (
    "the log was cut after the boot: look for what truncates it (a size limit, an end mark in the "
    "middle, a file that was cleared)"
)
_ANOTHER_WRITER: Final = (
    "find the other program that extends it (only one may), or see whether the log directory was "
    "cleared while the register kept its value; a new boot resets both"
)
_ANOTHER_BOOT: Final = (
    "the boot log was changed or belongs to another boot; compare with a reference log to see the "
    "first event that differs"
)


def _log_ahead(rtmr: int, got: bytes, log: LogHistory) -> Cause | None:
    """The quote is older than the end of the log: some first events give its value."""
    own = log.of(rtmr)
    before = [START, *(entry.value for entry in own[:-1])]
    if got not in before:
        return None
    extra = own[before.index(got) :]
    if not extra:
        return None
    first = extra[0].description.summary
    found = f"the log holds {len(extra)} more events of RTMR{rtmr} than the quote covers: {first}"
    return Code.EVENT_LOG_AHEAD, found, _READ_LATER


def _log_behind(
    rtmr: int, got: bytes, log: LogHistory, reference: LogHistory | None
) -> Cause | None:
    """Events are missing at the end of the log, and the reference log has them."""
    value = log.values[rtmr]
    further = () if reference is None else reference.of(rtmr)[len(log.of(rtmr)) :]
    for count, entry in enumerate(further, 1):
        value = extended(value, entry.digest or b"")
        if value == got:
            names = "; ".join(item.description.summary for item in further[: min(count, MAX_SHOWN)])
            found = f"the log lacks the last {count} events of RTMR{rtmr}: {names}"
            return Code.EVENT_LOG_BEHIND, found, _WAS_CUT
    return None


def _extended_behind(rtmr: int, log: LogHistory, reference: LogHistory | None) -> Cause:
    own = log.of(rtmr)
    if log.problem:
        found = f"the log cannot be replayed: {log.problem}"
        return Code.EVENT_LOG_REPLAY, found, "look for what wrote that entry"
    if rtmr == RUNTIME_RTMR:
        what = "has no event of it" if not own else f"explains only its own {len(own)} events"
        found = f"RTMR{rtmr} was extended by somebody who does not write to this log, which {what}"
        return Code.EVENT_LOG_REPLAY, found, _ANOTHER_WRITER
    where = "" if reference is None else f"; {_where_logs_part(rtmr, log, reference)}"
    found = f"replaying the {len(own)} events of RTMR{rtmr} does not give the register{where}"
    return Code.EVENT_LOG_REPLAY, found, _ANOTHER_BOOT


def _text_form(log: LogHistory, got: bytes) -> Finding:
    return Finding(
        Code.EVENT_LOG_REPLAY,
        Severity.REFUSAL,
        "RTMR3 was extended by events that are in aa_eventlog, the text form of guest-components "
        "v0.10 to v0.14, which a KBS since v0.15 does not read",
        "let guest and KBS be of releases that use the same form of the log",
        f"replay {log.values[RUNTIME_RTMR].hex()}",
        got.hex(),
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
    rtmr: int,
    got: str,
    good: Sequence[str],
    log: LogHistory | None,
    reference: LogHistory | None,
) -> Finding:
    if log is None:
        cause = "without an event log nobody can say which event"
    elif log.values[rtmr].hex() != got:
        cause = "its event log does not replay either, so which event cannot be said"
    elif reference is None:
        cause = "add the event log of a good boot to see the first event that differs"
    else:
        cause = _where_logs_part(rtmr, log, reference)
        if reference.values[rtmr].hex() not in good:
            cause += " (the reference log does not replay to a reference value itself)"
    return Finding(
        Code.RTMR_DIFFERS,
        Severity.REFUSAL,
        f"RTMR{rtmr} is none of the reference values; {cause}",
        _CHANGED[rtmr],
        _one_of(good),
        got,
    )


_CHANGED: Final = {
    0: "firmware, its variables, ACPI tables or the VM's shape changed (memory, CPUs, devices): "
    "register the new value, or start the VM as before",
    1: "boot loader, kernel image or partition table changed: register the new value, or boot the "
    "image that was registered",
    2: "command line, initrd or boot loader configuration changed: register the new value, or boot "
    "with what was registered",
    3: "what the guest measured at run time differs; events differ between boots, so prefer a "
    "policy on the log to a reference value",
}


def _where_logs_part(rtmr: int, log: LogHistory, reference: LogHistory) -> str:
    found = next((d for d in divergences(log, reference) if d.rtmr == rtmr), None)
    if found is None:
        return "its events are those of the reference log"
    here, there = (_shown(entry) for entry in (found.ours, found.reference))
    return f"first difference at its event {found.position}: got {here}, reference has {there}"


def _shown(entry: Entry | None) -> str:
    if entry is None:
        return "nothing more"
    digest = "no digest" if entry.digest is None else entry.digest.hex()[:8] + "…"
    return f"{entry.description.summary} ({digest})"


def explain_reference_log(references: ReferenceValues, reference: LogHistory) -> Iterator[Finding]:
    """Yield each register whose reference value is not what the reference log replays to."""
    for rtmr in RTMRS:
        good = references.good(f"rtmr_{rtmr}")
        value = reference.values[rtmr].hex()
        if good and reference.of(rtmr) and value not in good:
            yield Finding(
                Code.REFERENCE_LOG_STALE,
                Severity.NOTE,
                f"the reference log does not give a reference value of RTMR{rtmr}",
                "take log and values from the same good boot (cguest reference-values)",
                _one_of(good),
                value,
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
