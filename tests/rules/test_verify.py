"""The verdict on quotes of the mock authority: what passes, and what each deviation does to it."""

from __future__ import annotations

import builtins
import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from mocktee.pki import MockPki
from mocktee.platform import Platform
from mocktee.quotes import build_quote_v4, build_quote_v5
from mocktee.td import DEBUG, SEPT_VE_DISABLE, TdState
from tdx.aael import parse_text_log
from tdx.quote import parse_quote
from tdx.report_data import ReportData
from tdx.verify import (
    CheckName,
    Expectations,
    Policy,
    State,
    TcbLevel,
    Trust,
    Verdict,
    parse_collateral,
    parse_root,
    verify_quote,
)
from tdx.verify.errors import VerifierUnavailableError
from tdx.verify.judge import Judgement, Refusal
from tdx.verify.verdict import AUTHENTICITY

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PKI = MockPki.create(now=NOW)
OTHER = MockPki.create(now=NOW)
DATA = bytes(range(64))
CONFIG = b"\7" * 48
TD = TdState.booted(mrconfigid=CONFIG)
UNASKED = {CheckName.REPORT_DATA, CheckName.MR_CONFIG_ID, CheckName.EVENT_LOG,
           CheckName.MEASUREMENTS}  # fmt: skip


def trust(pki: MockPki = PKI, root: MockPki | None = None) -> Trust:
    collateral = parse_collateral(json.dumps(pki.collateral()).encode())
    return Trust(parse_root((root or pki).root_ca_der), collateral)


def judged(
    quote: bytes | None = None,
    *,
    given: Trust | None = None,
    now: datetime = NOW,
    policy: Policy | None = None,
    expected: Expectations | None = None,
) -> Verdict:
    data = build_quote_v4(PKI, DATA, TD) if quote is None else quote
    return verify_quote(
        parse_quote(data), given or trust(), now=now, policy=policy, expected=expected
    )


def failures(verdict: Verdict) -> set[CheckName]:
    return {check.name for check in verdict.failed}


@pytest.mark.parametrize("build", [build_quote_v4, build_quote_v5])
def test_a_good_quote_passes_and_the_rest_is_said(
    build: Callable[[MockPki, bytes, TdState], bytes],
) -> None:
    verdict = judged(build(PKI, DATA, TD))
    assert verdict.state is State.PASSED
    assert (verdict.level, verdict.advisories) == (TcbLevel.UP_TO_DATE, ())
    assert verdict.expires == NOW + timedelta(days=30)
    assert {check.name for check in verdict.not_checked} == UNASKED
    assert [check.name for check in verdict.checks] == list(CheckName)
    assert all(check.reason for check in verdict.checks)


def test_everything_asked_for_is_checked() -> None:
    expected = Expectations(ReportData(DATA), CONFIG, TD.boot_log.data_file())
    policy = Policy(measurements={"mr_td": frozenset({TD.mrtd, bytes(48)}),
                                  "rt_mr1": frozenset({TD.rtmrs[1]})})  # fmt: skip
    verdict = judged(expected=expected, policy=policy)
    assert verdict.state is State.PASSED
    assert not verdict.not_checked


def test_a_verdict_is_no_boolean() -> None:
    with pytest.raises(TypeError, match="no boolean"):
        bool(judged())


def flipped(at: int) -> bytes:
    data = bytearray(build_quote_v4(PKI, DATA, TD))
    data[at] ^= 1
    return bytes(data)


# Offsets in a version 4 quote, from Intel's sgx_quote_4.h.
@pytest.mark.parametrize(
    ("at", "broken"),
    [
        pytest.param(28, {CheckName.QUOTE_SIGNATURE}, id="header"),
        pytest.param(48 + 136, {CheckName.QUOTE_SIGNATURE}, id="mr_td"),
        pytest.param(636 + 5, {CheckName.QUOTE_SIGNATURE}, id="signature"),
        pytest.param(700 + 3, {CheckName.QUOTE_SIGNATURE, CheckName.QE_BINDING}, id="key"),
        pytest.param(770 + 64, {CheckName.QE_SIGNATURE}, id="QE report"),
        pytest.param(770 + 320, {CheckName.QE_BINDING, CheckName.QE_SIGNATURE}, id="QE data"),
        pytest.param(1154 + 9, {CheckName.QE_SIGNATURE}, id="QE signature"),
        pytest.param(1220, {CheckName.QE_BINDING}, id="QE authentication data"),
    ],
)
def test_the_broken_link_is_named(at: int, broken: set[CheckName]) -> None:
    verdict = judged(flipped(at))
    assert failures(verdict) == broken | {CheckName.DCAP}
    assert verdict.level is None
    assert verdict.state is State.FAILED


def test_another_root_of_the_same_name_is_refused() -> None:
    verdict = judged(given=trust(PKI, root=OTHER))
    assert {CheckName.PCK_CHAIN, CheckName.DCAP} <= failures(verdict)
    assert verdict.check(CheckName.PCK_CHAIN).reason == (
        "it ends in another root than 'Intel SGX Root CA'"
    )


def test_collateral_of_another_authority_is_refused() -> None:
    assert failures(judged(given=trust(OTHER, root=PKI))) == {CheckName.DCAP}


@pytest.mark.parametrize(
    ("now", "broken", "says"),
    [
        pytest.param(NOW - timedelta(days=2), {CheckName.PCK_CHAIN, CheckName.COLLATERAL_TIME},
                     "TCB info was issued 2026-05-31T00:00:00Z, after 2026-05-30T00:00:00Z",
                     id="before"),
        pytest.param(NOW + timedelta(days=31), {CheckName.COLLATERAL_TIME},
                     "TCB info expired 2026-07-01T00:00:00Z, before 2026-07-02T00:00:00Z",
                     id="after"),
    ],
)  # fmt: skip
def test_time_is_part_of_the_verdict(now: datetime, broken: set[CheckName], says: str) -> None:
    verdict = judged(now=now)
    assert failures(verdict) == broken | {CheckName.DCAP}
    assert verdict.check(CheckName.COLLATERAL_TIME).reason == says


def test_a_time_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="zone"):
        judged(now=datetime(2026, 6, 1))  # noqa: DTZ001


def test_collateral_for_another_platform_is_named() -> None:
    pki = MockPki.create(now=NOW, platform=Platform(fmspc=bytes.fromhex("00a06d080000")))
    verdict = judged(given=Trust(PKI.root_ca_der, trust(pki).collateral))
    check = verdict.check(CheckName.COLLATERAL_PLATFORM)
    assert check.state is State.FAILED
    assert "FMSPC 00a06d080000, the quote is from b0c06f000000" in check.reason


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({"attributes": SEPT_VE_DISABLE | DEBUG}, CheckName.DEBUG, "bit 0"),
        ({"attributes": 0}, CheckName.TD_ATTRIBUTES, "sept_ve_disable is not set"),
        ({"attributes": SEPT_VE_DISABLE | 1 << 29}, CheckName.TD_ATTRIBUTES, "set: migratable"),
        ({"attributes": SEPT_VE_DISABLE | 1 << 5}, CheckName.TD_ATTRIBUTES, "set: perf_prof"),
        ({"attributes": SEPT_VE_DISABLE | 1 << 40}, CheckName.TD_ATTRIBUTES, "reserved bit 40"),
    ],
    ids=["debug", "no sept_ve_disable", "migratable", "perf_prof", "reserved"],
)
def test_attributes_are_named(changes: dict[str, int], name: CheckName, says: str) -> None:
    td = dataclasses.replace(TD, attributes=changes["attributes"])
    verdict = judged(build_quote_v4(PKI, DATA, td))
    assert failures(verdict) == {name, CheckName.DCAP}
    assert says in verdict.check(name).reason
    assert verdict.check(name).hint


@pytest.mark.parametrize("bit", [16, 18, 22, 27, 30, 31, 62, 63])
def test_harmless_attributes_pass(bit: int) -> None:
    td = dataclasses.replace(TD, attributes=SEPT_VE_DISABLE | 1 << bit)
    assert judged(build_quote_v4(PKI, DATA, td)).state is State.PASSED


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded"])
def test_the_level_is_reported_and_the_policy_decides(status: str) -> None:
    pki = MockPki.create(now=NOW, tcb_status=status)
    quote = build_quote_v4(pki, DATA, TD)
    strict = judged(quote, given=trust(pki))
    assert strict.level == status
    assert failures(strict) == {CheckName.TCB_LEVEL}
    lenient = Policy(accepted_levels=frozenset({TcbLevel.UP_TO_DATE, TcbLevel(status)}))
    accepted = judged(quote, given=trust(pki), policy=lenient)
    assert (accepted.level, accepted.state) == (TcbLevel(status), State.PASSED)


def test_a_revoked_platform_has_no_level() -> None:
    pki = MockPki.create(now=NOW, tcb_status="Revoked")
    verdict = judged(build_quote_v4(pki, DATA, TD), given=trust(pki))
    assert CheckName.DCAP in failures(verdict)
    assert verdict.level is None


class Advising:
    """A judge that knows an advisory; the mock authority publishes none."""

    def judge(self, *_: object) -> Judgement | Refusal:
        return Judgement(TcbLevel.OUT_OF_DATE, ("INTEL-SA-00837",), NOW)


def test_advisories_are_reported_and_can_be_rejected() -> None:
    quote = parse_quote(build_quote_v4(PKI, DATA, TD))
    levels = frozenset({TcbLevel.OUT_OF_DATE})
    verdict = verify_quote(quote, trust(), now=NOW, policy=Policy(levels), judge=Advising())
    assert verdict.advisories == ("INTEL-SA-00837",)
    assert verdict.state is State.PASSED
    policy = Policy(levels, frozenset({"INTEL-SA-00837"}))
    verdict = verify_quote(quote, trust(), now=NOW, policy=policy, judge=Advising())
    assert failures(verdict) == {CheckName.ADVISORIES}


@pytest.mark.parametrize(
    ("expected", "name", "says"),
    [
        pytest.param(Expectations(report_data=ReportData.padded(b"x")), CheckName.REPORT_DATA,
                     "expected 78", id="report data"),
        pytest.param(Expectations(mr_config_id=bytes(48)), CheckName.MR_CONFIG_ID,
                     f"got {CONFIG.hex()}", id="MRCONFIGID"),
        pytest.param(Expectations(event_log=b"x"), CheckName.EVENT_LOG, "event log", id="no log"),
        pytest.param(Expectations(agent_log="INIT sha384/00\na b c"), CheckName.EVENT_LOG, "RTMR3",
                     id="text log"),
        pytest.param(Expectations(event_log=TdState.booted().boot_log.encode()[:65]),
                     CheckName.EVENT_LOG, "RTMR0, RTMR1, RTMR2", id="empty log"),
    ],
)  # fmt: skip
def test_what_differs_from_expectations(expected: Expectations, name: CheckName, says: str) -> None:
    verdict = judged(expected=expected)
    assert failures(verdict) == {name}
    assert says in verdict.check(name).reason


def test_an_unbound_td_is_told_from_one_bound_to_something_else() -> None:
    quote = build_quote_v4(PKI, DATA, TdState.booted())
    check = judged(quote, expected=Expectations(mr_config_id=CONFIG)).check(CheckName.MR_CONFIG_ID)
    assert check.hint == "the host bound no initdata to this TD"


def test_an_extension_behind_the_log_is_seen() -> None:
    td = TdState.booted()
    td.extend(3, b"\1" * 48)
    log = td.boot_log.data_file()
    verdict = judged(build_quote_v4(PKI, DATA, td), expected=Expectations(event_log=log))
    assert "RTMR3" in verdict.check(CheckName.EVENT_LOG).reason


def test_the_older_text_form_is_replayed_with_the_boot_log() -> None:
    text = f"INIT sha384/{'00' * 48}\nexample.com pull image\n"
    td = TdState.booted()
    for line in parse_text_log(text).lines:
        td.extend(3, line.digest)
    quote = build_quote_v4(PKI, DATA, td)
    expected = Expectations(event_log=td.boot_log.data_file(), agent_log=text)
    check = judged(quote, expected=expected).check(CheckName.EVENT_LOG)
    assert (check.state, check.reason) == (
        State.PASSED, "the replay gives RTMR0, RTMR1, RTMR2, RTMR3",
    )  # fmt: skip
    check = judged(quote, expected=Expectations(agent_log=text)).check(CheckName.EVENT_LOG)
    assert (check.state, check.reason) == (State.PASSED, "the replay gives RTMR3")


def test_a_register_outside_the_policy() -> None:
    verdict = judged(policy=Policy(measurements={"mr_td": frozenset({bytes(48)})}))
    assert failures(verdict) == {CheckName.MEASUREMENTS}
    assert TD.mrtd.hex() in verdict.check(CheckName.MEASUREMENTS).reason


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="no such registers: rtmr9"):
        Policy(measurements={"rtmr9": frozenset()})
    with pytest.raises(ValueError, match="48"):
        Expectations(mr_config_id=b"short")


def test_authenticity_rests_on_checks_that_exist() -> None:
    verdict = judged()
    checks = tuple(
        dataclasses.replace(check, state=State.NOT_CHECKED)
        if check.name is CheckName.QE_SIGNATURE else check
        for check in verdict.checks
    )  # fmt: skip
    assert dataclasses.replace(verdict, checks=checks).state is State.NOT_CHECKED
    assert not AUTHENTICITY & UNASKED


def test_without_the_library_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "dcap_qvl":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(VerifierUnavailableError, match=r"confidential-guest\[verify\]"):
        judged()
