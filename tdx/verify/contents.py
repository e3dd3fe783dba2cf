"""Checks of what a quote says, which no signature decides: what the judge leaves to its caller.

Debug, attributes, service TD, report data, MRCONFIGID, event log and measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tdx.attributes import ACCEPTED_UNNAMED_BITS, TD_ATTRIBUTE_BITS, set_bits
from tdx.errors import EventLogError
from tdx.log_history import RTMRS, log_history
from tdx.quote import Quote, TdReportBody
from tdx.verify.policy import REGISTERS, Expectations, Policy
from tdx.verify.verdict import Check, CheckName, failed, not_checked, passed

# Named attributes that take nothing away from trust; sept_ve_disable must even be set.
ACCEPTED_ATTRIBUTES: Final = frozenset(
    {"icssd", "lass", "sept_ve_disable", "pks", "kl", "tpa", "perfmon"}
)
DEBUG_BIT: Final = 0
SERVICE_TD_FIELDS: Final = ("mr_servicetd", "init_servicetd_hash", "current_servicetd_hash")
ZERO: Final = bytes(48)


def check_contents(quote: Quote, policy: Policy, expected: Expectations) -> Iterator[Check]:
    """Yield the checks of the body. Nothing raises; a log that does not parse fails."""
    yield _debug(quote)
    yield _attributes(quote.body)
    yield _service_td(quote.body)
    yield _report_data(quote.body, expected)
    yield _mr_config_id(quote.body, expected)
    yield _event_log(quote.body, expected)
    yield _measurements(quote.body, policy)


def _debug(quote: Quote) -> Check:
    if quote.body.debug:
        reason = "td_attributes bit 0: the host can read and change this TD"
        return failed(CheckName.DEBUG, reason, "start the TD without debug (QEMU: debug=off)")
    qe = quote.section.qe
    if qe is not None and qe.report.debug:
        return failed(CheckName.DEBUG, "the quoting enclave runs in debug mode")
    return passed(CheckName.DEBUG, "neither the TD nor the quoting enclave is in debug mode")


def _attributes(body: TdReportBody) -> Check:
    name = CheckName.TD_ATTRIBUTES
    wrong = [
        TD_ATTRIBUTE_BITS.get(bit, f"reserved bit {bit}")
        for bit in set_bits(body.attributes.value)
        if bit != DEBUG_BIT
        and bit not in ACCEPTED_UNNAMED_BITS
        and TD_ATTRIBUTE_BITS.get(bit) not in ACCEPTED_ATTRIBUTES
    ]
    if wrong:
        return failed(name, f"set: {', '.join(wrong)}", "start the TD without these attributes")
    if not body.attributes.has("sept_ve_disable"):
        hint = "start the TD with sept-ve-disable=on, as Linux guests need"
        return failed(name, "sept_ve_disable is not set: the host can inject faults", hint)
    return passed(name, f"{body.td_attributes.hex()}, nothing that takes trust away")


def _service_td(body: TdReportBody) -> Check:
    name = CheckName.SERVICE_TD
    fields = {
        field: value for field in SERVICE_TD_FIELDS if (value := getattr(body, field)) is not None
    }
    if not fields:
        return passed(name, "body 1.0: none can be bound")
    bound = [field for field, value in fields.items() if any(value)]
    if bound:
        return failed(
            name, f"{bound[0]} is {fields[bound[0]].hex()}: another TD can act on this one"
        )
    return passed(name, "none is bound")


def _report_data(body: TdReportBody, expected: Expectations) -> Check:
    name = CheckName.REPORT_DATA
    if expected.report_data is None:
        return not_checked(name, "no expected value was given: the quote may be an old one")
    wanted = expected.report_data.value
    if body.report_data != wanted:
        reason = f"expected {wanted.hex()}, got {body.report_data.hex()}"
        hint = "the quote answers another challenge, or key or hash algorithm differ"
        return failed(name, reason, hint)
    return passed(name, "as expected, all 64 bytes")


def _mr_config_id(body: TdReportBody, expected: Expectations) -> Check:
    name = CheckName.MR_CONFIG_ID
    if expected.mr_config_id is None:
        return not_checked(name, "no expected value was given")
    if body.mr_config_id == expected.mr_config_id:
        return passed(name, "as expected, all 48 bytes")
    reason = f"expected {expected.mr_config_id.hex()}, got {body.mr_config_id.hex()}"
    if body.mr_config_id == ZERO:
        hint = "the host bound no initdata to this TD"
    else:
        hint = "the host bound another initdata; compare algorithm and exact bytes"
    return failed(name, reason, hint)


def _event_log(body: TdReportBody, expected: Expectations) -> Check:
    name = CheckName.EVENT_LOG
    if expected.event_log is None and expected.agent_log is None:
        return not_checked(name, "no event log was given")
    try:
        history = log_history(expected.event_log, expected.agent_log)
    except EventLogError as error:
        return failed(name, error.problem)
    if history.problem:
        return failed(name, history.problem)
    told = [rtmr for rtmr in RTMRS if history.tells(rtmr)]
    wrong = [f"RTMR{rtmr}" for rtmr in told if history.values[rtmr] != body.rtmrs[rtmr]]
    if wrong:
        hint = "cguest eventlog replay FILE --quote FILE [--reference FILE] shows each event"
        return failed(name, f"the replay gives another value for {', '.join(wrong)}", hint)
    return passed(
        name, f"the replay gives {', '.join(f'RTMR{rtmr}' for rtmr in told) or 'nothing'}"
    )


def _measurements(body: TdReportBody, policy: Policy) -> Check:
    name = CheckName.MEASUREMENTS
    if not policy.measurements:
        return not_checked(name, "the policy has no values for registers")
    wrong = [
        register
        for register, accepted in policy.measurements.items()
        if getattr(body, REGISTERS[register]) not in accepted
    ]
    if wrong:
        values = "; ".join(f"{n} is {getattr(body, REGISTERS[n]).hex()}" for n in sorted(wrong))
        return failed(name, f"not among the accepted values: {values}")
    return passed(name, f"accepted: {', '.join(sorted(policy.measurements))}")
