"""What verification says: a level, advisories, an expiry, and every check with its reason.

Never a boolean: "verified" alone hides an outdated platform, a debug TD and everything that was
not looked at.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn


class State(enum.StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


class TcbLevel(enum.StrEnum):
    """Intel's word for how current a platform is, best first; relaunch advice at the end."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


class CheckName(enum.StrEnum):
    """The checks, in the order in which they are made and shown. Scripts read these names."""

    QUOTE_SIGNATURE = "quote_signature"  # the attestation key signed header and body
    QE_BINDING = "qe_binding"  # the QE report names that key
    QE_SIGNATURE = "qe_signature"  # the platform's PCK key signed the QE report
    PCK_CHAIN = "pck_chain"  # the PCK certificates lead to the given root, valid at the time
    COLLATERAL_PLATFORM = "collateral_platform"  # the collateral is for this platform
    COLLATERAL_TIME = "collateral_time"  # every document of it is in force at the time
    DCAP = "dcap"  # all of it, with revocation, identity of the QE and TCB levels, by dcap-qvl
    TCB_LEVEL = "tcb_level"  # the level is one the policy accepts
    ADVISORIES = "advisories"  # none that the policy rejects
    DEBUG = "debug"  # no debug TD, no debug QE
    TD_ATTRIBUTES = "td_attributes"  # no other attribute that takes trust away
    SERVICE_TD = "service_td"  # no service TD is bound
    REPORT_DATA = "report_data"
    MR_CONFIG_ID = "mr_config_id"
    EVENT_LOG = "event_log"  # its replay gives RTMR0 to RTMR3
    MEASUREMENTS = "measurements"  # registers the policy has values for


# Without these nothing in the quote is known to be true.
AUTHENTICITY: Final = frozenset(
    {
        CheckName.QUOTE_SIGNATURE,
        CheckName.QE_BINDING,
        CheckName.QE_SIGNATURE,
        CheckName.PCK_CHAIN,
        CheckName.COLLATERAL_PLATFORM,
        CheckName.COLLATERAL_TIME,
        CheckName.DCAP,
        CheckName.TCB_LEVEL,
        CheckName.DEBUG,
    }
)


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``reason`` says what was compared, or what was missing for it."""

    name: CheckName
    state: State
    reason: str
    hint: str = ""  # what can be done about a failure


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a quote at one time.

    ``level`` is None if no level could be established. ``expires`` is when the first piece of
    collateral does; after it the same quote has to be judged again.
    """

    level: TcbLevel | None
    advisories: tuple[str, ...]
    expires: datetime | None
    checks: tuple[Check, ...]

    def __bool__(self) -> NoReturn:
        raise TypeError("a verdict is no boolean: look at its state, level and checks")

    @property
    def state(self) -> State:
        """FAILED if any check failed; NOT_CHECKED if one that trust rests on was not made."""
        if self.failed:
            return State.FAILED
        missing = AUTHENTICITY & {check.name for check in self.not_checked}
        return State.NOT_CHECKED if missing else State.PASSED

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.state is State.FAILED)

    @property
    def not_checked(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.state is State.NOT_CHECKED)

    def check(self, name: CheckName) -> Check:
        """Return one check. Every verdict has all of them."""
        return next(check for check in self.checks if check.name is name)


def passed(name: CheckName, reason: str) -> Check:
    return Check(name, State.PASSED, reason)


def failed(name: CheckName, reason: str, hint: str = "") -> Check:
    return Check(name, State.FAILED, reason, hint)


def not_checked(name: CheckName, reason: str) -> Check:
    return Check(name, State.NOT_CHECKED, reason)
