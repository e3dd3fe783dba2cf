"""What a daemon's error text becomes in a bundle."""

from __future__ import annotations

import json

import pytest

from cguest.collecting import answer_of
from explain import Code
from explain.answer import explain_answer, parse_answer
from kbs import (
    AttestationRefusedError,
    KbsError,
    KbsRefusedError,
    KbsUnreachableError,
    PolicyDeniedError,
    ResourceMissingError,
)
from ttrpc import Code as Status
from ttrpc import StatusError

URI = "kbs:///default/key/1"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(
            PolicyDeniedError(401, "PolicyDeny", "Access denied by policy"),
            Code.POLICY_DENIED,
            id="policy",
        ),
        pytest.param(
            ResourceMissingError(401, "PluginInternalError", "Plugin internal error"),
            Code.RESOURCE_MISSING,
            id="missing",
        ),
        pytest.param(
            AttestationRefusedError(401, "AttestationError", "it's refused"),
            Code.ATTESTATION_REFUSED,
            id="quotation mark in the answer",
        ),
        pytest.param(KbsRefusedError(403, "", ""), Code.KBS_REFUSED, id="no problem document"),
    ],
)
def test_a_refusal_keeps_the_words_of_the_kbs(error: KbsRefusedError, code: Code) -> None:
    text = f"[CDH] [ERROR]: Get Resource failed: {error.during(f'fetching {URI}')}"
    answer = parse_answer(answer_of(StatusError(Status.INTERNAL, text, refused=True), URI))
    (found,) = explain_answer(answer)
    assert found.code is code
    assert answer.resource == URI
    assert error.detail in found.got


@pytest.mark.parametrize("error", [KbsUnreachableError("no route"), KbsError("no quote")])
def test_what_is_no_refusal_is_an_outage(error: KbsError) -> None:
    answer = json.loads(answer_of(StatusError(Status.INTERNAL, str(error))))
    assert answer["outcome"] == "evidence"
    assert answer["message"] == str(error)
