"""What a KBS's "no" means, by problem type; and when to ask again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs import (
    AttestationRefusedError,
    KbsError,
    KbsProtocolError,
    KbsRefusedError,
    KbsTimeoutError,
    KbsTlsError,
    KbsUnreachableError,
    PolicyDeniedError,
    ResourceMissingError,
    RetryPolicy,
    TokenRefusedError,
)
from kbs.problem import MAX_DETAIL_CHARACTERS, read_refusal
from kbs.retry import Retrier
from tests.rules.virtual_time import VirtualTime

PREFIX = "https://github.com/confidential-containers/kbs/errors/"


def refusal(status: int, body: bytes) -> KbsRefusedError:
    return read_refusal(status, body, attempted="asking", client_version="0.4.0", retry_after=None)


def problem(name: str, detail: str = "") -> bytes:
    return json.dumps({"type": PREFIX + name, "detail": detail}).encode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AttestationError", AttestationRefusedError),
        ("PolicyDeny", PolicyDeniedError),
        ("PluginInternalError", ResourceMissingError),
        ("PluginNotFound", ResourceMissingError),
        ("TokenVerifierError", TokenRefusedError),
        ("TokenNotFound", TokenRefusedError),
        ("JweError", KbsRefusedError),
        ("PolicyEngineError", KbsRefusedError),
        ("SomethingNew", KbsRefusedError),
    ],
)
@pytest.mark.parametrize("status", [401, 404, 500])
def test_the_type_decides_and_not_the_status(
    name: str, kind: type[KbsRefusedError], status: int
) -> None:
    error = refusal(status, problem(name, "because"))
    assert type(error) is kind
    assert error.problem_type == name
    assert error.status == status
    assert f"KBS: {name} 'because'" in str(error)
    assert "; hint: " in str(error)


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 500, 502])
@pytest.mark.parametrize("body", [b"", b"plain text", b"<html>", b'{"type":5}', b'{"detail":"d"}'])
def test_without_a_type_it_is_a_plain_refusal(status: int, body: bytes) -> None:
    error = refusal(status, body)
    assert type(error) is KbsRefusedError
    assert error.problem_type == ""
    assert f"HTTP {status}" in str(error)


def test_recorded_errors(shared_vectors: Path) -> None:
    kinds = {
        "version refused": AttestationRefusedError,
        "evidence refused; no cause given": AttestationRefusedError,
        "resource policy said no": PolicyDeniedError,
        "no such resource": ResourceMissingError,
        "no such resource, malformed resource path, or any other plugin failure": (
            ResourceMissingError
        ),
        "neither a session cookie nor a bearer token": TokenRefusedError,
        "token expired, bad signature, untrusted key, or no tee-pubkey inside": TokenRefusedError,
        "first path segment names no plugin": ResourceMissingError,
    }
    cases = json.loads((shared_vectors / "kbs/rcar/errors.json").read_text())["cases"]
    versions = []
    for case in cases:
        error = refusal(case["status"], json.dumps(case["body"]).encode())
        assert type(error) is kinds[case["meaning"]], case
        if case["meaning"] == "version refused":
            assert isinstance(error, AttestationRefusedError)
            assert "change one of them" in error.hint
            versions.append(error.expected_version)
    assert versions == ["0.4.0", "0.1.1", None]


def test_a_version_mismatch_names_both_versions() -> None:
    detail = (
        "Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: "
        "expect =0.2.0 while the request is 0.4.0"
    )
    error = refusal(401, problem("AttestationError", detail))
    assert "this KBS speaks protocol 0.2.0, this guest 0.4.0" in str(error)


@given(
    st.integers(400, 599),
    st.binary(max_size=400)
    | st.text(max_size=400).map(lambda t: json.dumps({"type": t, "detail": t}).encode()),
)
def test_peer_text_is_bounded_and_printable(status: int, body: bytes) -> None:
    error = refusal(status, body)
    assert str(error).isprintable()
    assert len(error.detail) <= MAX_DETAIL_CHARACTERS + 1
    assert len(str(error)) < 5 * MAX_DETAIL_CHARACTERS


class Script:
    """An operation that fails as told, then succeeds."""

    def __init__(self, *failures: KbsError) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def run(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


class Clock(VirtualTime):
    """Sleeping takes no time but is seen on the clock."""

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def overload(retry_after: float | None = None, status: int = 503) -> KbsRefusedError:
    return KbsRefusedError(status, "", "busy", retry_after=retry_after)


async def attempt(script: Script, clock: Clock, *, within: float = 1000.0, seed: int = 1) -> str:
    retrier = Retrier(RetryPolicy(), clock=clock.clock, rng=random.Random(seed), sleep=clock.sleep)
    return await retrier.run(script.run, clock.now + within)


@pytest.mark.parametrize(
    "failure",
    [
        KbsUnreachableError("no connection"),
        KbsTimeoutError(1.0),
        overload(),
        overload(status=500),
        overload(status=429),
    ],
    ids=["unreachable", "timeout", "503", "500", "429"],
)
async def test_what_time_can_mend_is_tried_again(failure: KbsError) -> None:
    script, clock = Script(failure, failure), Clock()
    assert await attempt(script, clock) == "done"
    assert script.calls == 3
    assert len(clock.sleeps) == 2


@pytest.mark.parametrize(
    "failure",
    [
        KbsTlsError("wrong CA"),
        KbsProtocolError("not a KBS"),
        KbsRefusedError(401, "", ""),
        KbsRefusedError(413, "", ""),
        PolicyDeniedError(401, "PolicyDeny", ""),
        TokenRefusedError(401, "TokenNotFound", ""),
        AttestationRefusedError(500, "AttestationError", ""),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'status', '')}",
)
async def test_what_is_decided_is_not_asked_twice(failure: KbsError) -> None:
    script = Script(failure)
    with pytest.raises(type(failure)) as caught:
        await attempt(script, Clock())
    assert script.calls == 1
    assert "attempts" not in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
async def test_pauses_grow_and_are_jittered(seed: int) -> None:
    clock = Clock()
    await attempt(Script(*[overload() for _ in range(4)]), clock, seed=seed)
    assert len(clock.sleeps) == 4
    for number, pause in enumerate(clock.sleeps):
        assert 0 <= pause <= 0.25 * 2**number


async def test_the_server_names_the_pause() -> None:
    clock = Clock()
    await attempt(Script(overload(retry_after=7.0)), clock)
    assert clock.sleeps == [7.0]


async def test_a_pause_beyond_the_deadline_is_not_begun() -> None:
    script, clock = Script(overload(retry_after=60.0)), Clock()
    with pytest.raises(KbsRefusedError):
        await attempt(script, clock, within=30.0)
    assert clock.sleeps == []
    assert script.calls == 1


async def test_the_first_cause_is_kept() -> None:
    failures = [KbsUnreachableError("no connection (refused)"), *(overload() for _ in range(9))]
    script = Script(*failures)
    with pytest.raises(KbsRefusedError) as caught:
        await attempt(script, Clock())
    assert script.calls == 5
    assert caught.value.attempts == 5
    assert caught.value.first_cause is failures[0]
    assert "gave up after 5 attempts, the first failed with: no connection (refused)" in str(
        caught.value
    )
