"""Limits with a clock that the test turns, the anti-forgery header, and strict answers."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest.app import limits_key
from rest.bounded_log import AT_ONCE, BoundedLog
from rest.counts import CLASSES, RestCounts, Route
from rest.errors import BackendError, OverLimitError
from rest.forgery import ForgeryGuard
from rest.identity import Container
from rest.limits import MAX_CALLERS, MAX_HELD, Admission, Place, TokenBucket
from rest.peer import OVER_TCP, Caller, Guest, Unidentified
from rest.sections import LimitsConfig
from rest.strict import Compatibility, RuntimeData, runtime_data, token_without_key
from secrecy import Secret
from secrecy.journal import configure_logging


def admission(**limits: float) -> Admission:
    values = {"requests": 4, "requests_per_caller": 2, "burst": 100, **limits}
    return Admission(LimitsConfig(**values))  # type: ignore[arg-type]


def taken(admission: Admission, caller: str, now: float = 0.0) -> Place:
    place = admission.place()
    place.take(caller, now)
    return place


def refused(admission: Admission, caller: str, now: float = 0.0) -> OverLimitError:
    with admission.place() as place, pytest.raises(OverLimitError) as caught:
        place.take(caller, now)
    return caught.value


def test_one_caller_takes_no_more_than_its_share() -> None:
    found = admission()
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(taken(found, "a"))
        error = refused(found, "a")
        assert error.callers
        assert error.retry_after >= 1
        held.enter_context(taken(found, "b"))
    with taken(found, "a"):
        pass


def test_all_callers_together_have_a_limit() -> None:
    found = admission()
    with ExitStack() as held:
        for caller in "aabb":
            held.enter_context(taken(found, caller))
        error = refused(found, "c")
        assert not error.callers
    with taken(found, "c"):
        pass


def test_answers_that_are_not_taken_have_a_limit() -> None:
    found = admission()
    with taken(found, "a") as first, taken(found, "a") as second, taken(found, "b") as others:
        first.hold(MAX_HELD - 1)
        with pytest.raises(OverLimitError, match="not taken"):
            second.hold(2)
        second.hold(1)
        others.hold(MAX_HELD)
    with taken(found, "a") as place:
        place.hold(MAX_HELD)


def test_limits_are_of_a_container_and_not_of_the_words_for_it() -> None:
    names = {"io.kubernetes.cri.container-name": "server"}
    alike = [Container("a" * 64 + end, names) for end in ("b", "c")]
    callers: list[Caller] = [*alike, Container("guest"), Guest(), OVER_TCP]
    keys = {limits_key(caller) for caller in callers}
    assert len(keys) == 5
    assert limits_key(Unidentified("gone")) == limits_key(OVER_TCP)


def test_a_burst_and_then_a_rate() -> None:
    found = admission(burst=3, requests_per_second=0.5)
    for _ in range(3):
        with taken(found, "a", 10):
            pass
    assert refused(found, "a", 10).retry_after == 2
    assert refused(found, "a", 11).retry_after == 1
    with taken(found, "b", 11):
        pass
    with taken(found, "a", 12):
        pass
    assert refused(found, "a", 12).callers


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 5), st.floats(0.1, 10))
def test_a_bucket_never_gives_more_than_burst_and_rate(
    steps: list[float], burst: int, rate: float
) -> None:
    now, bucket = 0.0, TokenBucket(rate, burst, 0.0)
    given_out = 0
    for step in steps:
        now += step
        given_out += bucket.take(now) == 0
    assert given_out <= burst + rate * now + 1e-6


def test_what_is_remembered_of_callers_is_bounded() -> None:
    found = admission(burst=1, requests_per_second=1)
    for number in range(3 * MAX_CALLERS):
        with taken(found, str(number), float(number)):
            pass
    assert len(found._callers) <= MAX_CALLERS + 1


def test_a_log_shows_the_first_and_counts_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    now = 0.0
    log = BoundedLog(lambda: now)
    for number in range(AT_ONCE + 1000):
        log.warning("refused", caller=str(number))
    now = 1.0
    log.warning("refused", caller="last")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["caller"] for line in lines] == [*map(str, range(AT_ONCE)), "last"]
    assert lines[-1]["not_shown"] == 1000
    assert "not_shown" not in lines[0]


GUARD = ForgeryGuard.parse("X-Cguest-Request: yes", ["guest.internal"])


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8006", "LOCALHOST", "127.0.0.1:8006", "127.9.9.9", "[::1]", "[::1]:80",
     "guest.internal:8006", "Guest.Internal"],
)  # fmt: skip
def test_hosts_that_are_ours(host: str) -> None:
    assert GUARD.refusal(["yes"], [host], None) is None


@pytest.mark.parametrize(
    "hosts",
    [[], ["localhost", "localhost"], ["evil.example"], ["127.0.0.1.evil.example"], ["10.0.0.1"],
     ["localhost.evil"], ["[::2]"], [""], ["user@localhost"], ["localhost:x"], ["localhost "]],
    ids=str,
)  # fmt: skip
def test_hosts_that_are_not(hosts: list[str]) -> None:
    refusal = GUARD.refusal(["yes"], hosts, None)
    assert refusal is not None
    assert refusal.status == 403


@pytest.mark.parametrize("values", [[], ["no"], ["yes", "yes"], ["Yes"], ["yes, yes"]], ids=str)
def test_the_header_must_be_there_once_as_it_is(values: list[str]) -> None:
    refusal = GUARD.refusal(values, ["localhost"], None)
    assert refusal is not None
    assert refusal.body == b"Forbidden: header X-Cguest-Request is required"


def test_what_an_absolute_target_names_counts_too() -> None:
    assert GUARD.refusal(["yes"], ["localhost"], "localhost:8006") is None
    assert GUARD.refusal(["yes"], ["localhost"], "evil.example") is not None


@given(st.binary(max_size=64))
def test_strict_data_is_a_labelled_digest(data: bytes) -> None:
    bound = hashlib.sha512(b"confidential-guest caller evidence v1\0" + data).digest()
    assert runtime_data(data, Compatibility.STRICT) == RuntimeData(bound, data)
    assert runtime_data(data, Compatibility.REFERENCE) == RuntimeData(data)


@pytest.mark.parametrize("compatibility", list(Compatibility))
def test_more_than_a_report_holds_is_refused(compatibility: Compatibility) -> None:
    with pytest.raises(BackendError, match="ttrpc request error: runtime data of 65 bytes"):
        runtime_data(bytes(65), compatibility)


@pytest.mark.parametrize(
    ("kind", "token", "given_out"),
    [
        ("kbs", '{"token":"t","tee_keypair":"-----BEGIN"}', '{"token":"t"}'),
        ("kbs", '{"tee_keypair":"-----BEGIN","token":"t","more":[1]}', '{"token":"t"}'),
        ("coco_as", "eyJ.eyJ.x", "eyJ.eyJ.x"),
        ("coco_as", ' {"tee_keypair":"-----BEGIN","token":"t"}', '{"token":"t"}'),
    ],
)
def test_a_token_comes_alone(kind: str, token: str, given_out: str) -> None:
    assert token_without_key(kind, Secret(token)).reveal_text() == given_out


@pytest.mark.parametrize(
    ("kind", "token"),
    [("kbs", "-----BEGIN"), ("kbs", ""), ("kbs", "[1]"), ("kbs", '{"tee_keypair":"-----BEGIN"}'),
     ("kbs", '{"token":{"tee_keypair":"-----BEGIN"}}'), ("kbs", "\xff"), ("x", "[" * 100000)],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_a_token_of_no_known_form_is_not_given_out(kind: str, token: str) -> None:
    with pytest.raises(BackendError, match="no form that is known") as caught:
        token_without_key(kind, Secret(token.encode("latin-1")))
    assert "BEGIN" not in str(caught.value)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20)), st.text(max_size=20))
def test_no_other_member_gets_through(members: dict[str, str], token: str) -> None:
    text = json.dumps({**members, "token": token})
    assert json.loads(token_without_key("kbs", Secret(text)).reveal()) == {"token": token}


def test_counts_have_a_fixed_set_of_labels() -> None:
    counts = RestCounts()
    counts.add(Route.TOKEN, 200)
    counts.add(Route.TOKEN, 204)
    counts.add(Route.OTHER, 404)
    samples = {(route, of): count for route, of, count in counts.samples()}
    assert len(samples) == len(Route) * len(CLASSES)
    assert {key: count for key, count in samples.items() if count} == {
        ("token", "2xx"): 2,
        ("other", "4xx"): 1,
    }
