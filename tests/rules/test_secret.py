"""A Secret shows itself to nobody who did not ask."""

from __future__ import annotations

import copy
import io
import json
import pickle
from collections.abc import Callable

import pytest

from secrecy import Secret, SecretEncodingError
from secrecy.journal import configure_logging, get_logger

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(lambda s: f"{s}", id="format"),
        pytest.param(lambda s: f"{s!r:>40}", id="format-repr"),
        pytest.param(lambda s: "%s" % s, id="percent"),  # noqa: UP031
        pytest.param(lambda s: str([s]), id="inside-a-list"),
        pytest.param(lambda s: str({"k": s}), id="inside-a-dict"),
    ],
)
def test_is_never_rendered(show: Callable[[Secret], str]) -> None:
    assert CANARY not in show(Secret(CANARY))


@pytest.mark.parametrize(
    "misuse",
    [
        pytest.param(lambda s: s == Secret(CANARY), id="equality"),
        pytest.param(hash, id="hash"),
        pytest.param(pickle.dumps, id="pickle"),
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(json.dumps, id="json"),
    ],
)
def test_misuse_raises(misuse: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError):
        misuse(Secret(CANARY))


def test_opens_on_request_only_and_wipes() -> None:
    secret = Secret(CANARY)
    assert secret.reveal_text() == CANARY
    assert secret.matches(Secret(CANARY)) and not secret.matches(b"other")
    secret.wipe()
    assert len(secret) == 0 and secret.reveal() == b""


def test_bad_text_does_not_carry_the_bytes() -> None:
    with pytest.raises(SecretEncodingError) as caught:
        Secret(b"\xff" + CANARY.encode()).reveal_text()
    assert CANARY not in repr(caught.value.__dict__) and caught.value.__cause__ is None


def test_logs_redact_by_type() -> None:
    stream = io.StringIO()
    configure_logging("debug", stream)
    get_logger("test").debug(
        "event",
        secret=Secret(CANARY),
        raw=CANARY.encode(),
        nested={"deep": [Secret(CANARY)]},
        thing=type("Thing", (), {"__repr__": lambda _self: CANARY})(),
    )
    line = json.loads(stream.getvalue())
    assert CANARY not in stream.getvalue()
    assert line["raw"] == "<11 bytes>" and line["component"] == "test"
