"""Rules of the mock KBS that need no socket: bounds, trust tiers, the policy cache."""

from __future__ import annotations

from typing import Any

import pytest

from mocktee.kbs.errors import (
    AuthRefusedError,
    FaultFormatError,
    PluginFailedError,
    PolicyEngineError,
    ReferenceValueError,
)
from mocktee.kbs.faults import MAX_PENDING, Cut, FaultPlan
from mocktee.kbs.references import COMPARABLE, MAX_VALUES, ReferenceValues
from mocktee.kbs.rego import MAX_COMPILED, MAX_TEXT, RegoPolicy, shipped_policy
from mocktee.kbs.resources import MAX_RESOURCES, ResourceStore
from mocktee.kbs.sessions import MAX_SESSIONS, SessionStore
from mocktee.kbs.token import trust_status


class Clock:
    """Wall time that a test can move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_sessions_are_bounded_and_room_comes_with_time() -> None:
    clock = Clock()
    store = SessionStore(life_seconds=300, clock=clock)
    sessions = [store.open("tdx") for _ in range(MAX_SESSIONS)]
    assert len({session.nonce for session in sessions}) == MAX_SESSIONS
    with pytest.raises(AuthRefusedError, match="sessions are open"):
        store.open("tdx")
    clock.now += 300
    assert store.find(sessions[0].id) is None
    store.open("tdx")
    assert len(store) == 1


def test_session_cookie_has_an_http_date() -> None:
    session = SessionStore(life_seconds=300, clock=Clock()).open("tdx")
    assert session.cookie() == (
        f"kbs-session-id={session.id}; Expires=Mon, 12 Jan 1970 13:51:40 GMT"
    )


def test_replay_is_seen_among_live_sessions_only() -> None:
    clock = Clock()
    store = SessionStore(life_seconds=300, clock=clock)
    first, second = store.open("tdx"), store.open("tdx")
    assert store.issued_elsewhere(first.nonce, second)
    assert not store.issued_elsewhere(second.nonce, second)
    assert not store.issued_elsewhere("other", second)


def test_resources_are_bounded() -> None:
    store = ResourceStore()
    for number in range(MAX_RESOURCES):
        store.put(("a", "b", str(number)), b"")
    with pytest.raises(PluginFailedError, match="the store holds"):
        store.put(("a", "b", "more"), b"")
    store.put(("a", "b", "0"), b"overwritten")
    assert store.get(("a", "b", "0")) == b"overwritten"


def test_pending_faults_are_bounded() -> None:
    plan = FaultPlan()
    for _ in range(MAX_PENDING):
        plan.add(Cut())
    with pytest.raises(FaultFormatError, match="faults are pending"):
        plan.add(Cut())


def test_reference_values_are_registered_together_or_not_at_all() -> None:
    references = ReferenceValues()
    with pytest.raises(ReferenceValueError):
        references.register({"mr_td": ["AB"], "report_data": ["00"]})
    with pytest.raises(ReferenceValueError, match="more than"):
        references.register({"mr_td": ["ab"] * (MAX_VALUES + 1)})
    assert references.registered() == {}
    assert "report_data" not in COMPARABLE
    references.register({"mr_td": ["AB"], "tcb_status": ["UpToDate"], "xfam": []})
    assert references.registered() == {"mr_td": ("ab",), "tcb_status": ("UpToDate",)}


@pytest.mark.parametrize(
    ("vector", "status"),
    [
        ({}, "none"),
        ({"hardware": 0}, "none"),
        ({"hardware": 2, "executables": 3, "file-system": 0}, "affirming"),
        ({"hardware": 2, "executables": 33}, "warning"),
        ({"hardware": 97, "executables": 3}, "contraindicated"),
    ],
    ids=str,
)
def test_worst_claim_gives_the_status(vector: dict[str, Any], status: str) -> None:
    assert trust_status(vector) == status


def test_policies_stay_right_when_their_cache_overflows() -> None:
    text = 'package policy\nallow := data["resource-path"][2] == input.tag'
    policy = RegoPolicy(text, "data.policy.allow")
    for _ in range(2):
        for number in range(MAX_COMPILED + 3):
            data: dict[str, Any] = {"resource-path": ["a", "b", str(number)]}
            assert policy.evaluate(data, {"tag": str(number)}) is True
            assert policy.evaluate(data, {"tag": "other"}) is False


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("package policy\nallow if {", "this is unclosed"),
        ("x" * (MAX_TEXT + 1), "policy of 262145 characters"),
        ("", "does not compile"),
    ],
    ids=["unclosed", "long", "empty"],
)
def test_policies_that_do_not_compile(text: str, cause: str) -> None:
    with pytest.raises(PolicyEngineError, match=cause):
        RegoPolicy(text, "data.policy.allow")


def test_unknown_function_is_an_error_and_no_answer() -> None:
    policy = RegoPolicy("package policy\nallow if nosuch(1)", "data.policy.allow")
    with pytest.raises(PolicyEngineError, match="does not evaluate"):
        policy.evaluate({}, {})


def test_unknown_shipped_policy() -> None:
    with pytest.raises(ValueError, match="allow_all, deny_all"):
        shipped_policy("../secret")
