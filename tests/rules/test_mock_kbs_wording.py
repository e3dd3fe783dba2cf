"""What each generation of servers says instead of what the newest says."""

from __future__ import annotations

import pytest

from mocktee.kbs import errors
from mocktee.kbs.era import ERAS, HEAD, V0_8, V0_10, V0_11, Era, PolicyData, era_of
from mocktee.kbs.policies import policy_data
from mocktee.kbs.wording import Problem, word

UNAUTHORIZED = "Authentication failed: Requester is not an authorized user"


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (errors.CookieExpiredError(), (401, "ExpiredCookie", "The cookie is expired")),
        (
            errors.AttestRefusedError("quote"),
            (401, "AttestationFailed", "Attestation failed: quote"),
        ),
        (
            errors.AuthRefusedError("1024 sessions are open"),
            (401, "FailedAuthentication", "Authentication failed: Session: 1024 sessions are open"),
        ),
        (
            errors.SetPolicyRefusedError("x"),
            (401, "PolicyEndpoint", "Policy error: Set policy error: x"),
        ),
        (errors.PolicyTextError("x"), (401, "PolicyEndpoint", "Policy error: x")),
        (
            errors.PolicyEngineError("x"),
            (401, "PolicyEngineFailed", "Resource policy engine evaluate failed: x"),
        ),
        (errors.PolicyDeniedError("x"), (401, "PolicyReject", "Resource not permitted.")),
        (
            errors.ResourceMissingError("no resource a/b/c"),
            (404, "ReadSecretFailed", "Read secret failed: read resource from local fs"),
        ),
        (
            errors.PluginFailedError("full"),
            (401, "SetSecretFailed", "Set secret failed: full"),
        ),
        (
            errors.TokenKeyError("none"),
            (401, "AttestationClaimsParseFailed", "Received illegal attestation claims: none"),
        ),
        (
            errors.TokenRefusedError("expired"),
            (401, "TokenParseFailed", "Received an illegal token: verify token failed: expired"),
        ),
        (
            errors.EncryptionFailedError("P-256"),
            (401, "JWEFailed", "Json Web Encryption failed: P-256"),
        ),
        (
            errors.AdminRefusedError("resource-policy", "who"),
            (
                401,
                "FailedAuthentication",
                f"{UNAUTHORIZED}: token verification failed",
            ),
        ),
        (
            errors.PluginNotFoundError("x"),
            (401, "InvalidRequest", "The request is invalid: Plugin x not found"),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("era", [V0_8, V0_10], ids=lambda era: era.name)
def test_up_to_v0_10(era: Era, error: errors.ProblemError, problem: tuple[int, str, str]) -> None:
    assert word(error, era) == Problem(*problem)


def test_v0_11_has_its_own_word_for_administration_and_policies() -> None:
    assert word(errors.PolicyEngineError("x"), V0_11) == Problem(
        401, "PolicyEngine", "Policy engine error"
    )
    assert word(errors.PluginAdminRefusedError("x"), V0_11) == Problem(
        401, "AdminAuth", "Admin auth error: Admin Token verification failed"
    )
    missing = errors.ResourceMissingError("x")
    assert word(missing, V0_11) == word(missing, HEAD)


def test_eras_are_found_by_name() -> None:
    assert [era_of(name).name for name in ERAS] == list(ERAS)
    assert V0_8.requirement == "<=0.1.0"
    assert V0_10.requirement == "=0.1.1"


def test_data_of_resource_policies() -> None:
    path = ["a", "b", "c"]
    assert policy_data(PolicyData.PATH, path, {}) == {"resource-path": "a/b/c"}
    assert policy_data(PolicyData.PLUGIN_AND_PATH, path, {}) == {"resource-path": "resource/a/b/c"}
    assert policy_data(PolicyData.SEGMENTS, path, {"x": "y"}) == {
        "plugin": "resource",
        "resource-path": path,
        "query": {"x": "y"},
    }
