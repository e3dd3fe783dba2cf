"""Our client's codecs on what real key brokers have answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbs.errors import (
    AttestationRefusedError,
    KbsRefusedError,
    PolicyDeniedError,
    ResourceMissingError,
    TokenRefusedError,
)
from kbs.handshake import RcarWire
from kbs.jwe import open_jwe, parse_jwe
from kbs.older_payloads import RCAR_0_1_0_LATE, RCAR_0_1_1, RCAR_0_2_0
from kbs.payloads import RCAR_0_4_0
from kbs.problem import is_version_refusal, read_refusal
from kbs.tee_key import TeeKey
from secrecy import Secret

RECORDINGS = Path(__file__).parent / "vectors" / "kbs"
SERVERS: list[tuple[str, RcarWire]] = [
    ("trustee-head.json", RCAR_0_4_0),
    ("trustee-v0.13.json", RCAR_0_2_0),
    ("trustee-v0.11.json", RCAR_0_1_1),
    ("trustee-v0.10.json", RCAR_0_1_1),
    ("trustee-v0.9.json", RCAR_0_1_0_LATE),
]
OLD_JWE = {"trustee-v0.11.json", "trustee-v0.10.json", "trustee-v0.9.json"}
BEFORE_PLUGINS = {"trustee-v0.10.json", "trustee-v0.9.json"}
REFUSALS: dict[str, type[KbsRefusedError]] = {
    "no token": TokenRefusedError,
    "wrong version": AttestationRefusedError,
    "attest with unknown cookie": AttestationRefusedError,
    "wrong digest": AttestationRefusedError,
    "not attested": TokenRefusedError,
    "bad bearer": TokenRefusedError,
    "missing resource": ResourceMissingError,
    "deny": PolicyDeniedError,
}


# Up to v0.10 a request without a token is just an invalid one, and a lost session has a name.
OLD_REFUSALS: dict[str, type[KbsRefusedError]] = REFUSALS | {
    "no token": KbsRefusedError,
    "not attested": KbsRefusedError,
    "attest with unknown cookie": TokenRefusedError,
}


def exchanges(name: str) -> Iterator[tuple[str, str, Any]]:
    """Step, path and answer of a recording."""
    for exchange in json.loads((RECORDINGS / name).read_text())["exchanges"]:
        if exchange["answer"] is not None:  # None: the connection ended
            yield exchange["step"], exchange["request"]["path"], exchange["answer"]


def refusal(answer: Any, version: str) -> KbsRefusedError:
    body = answer["body"].encode()
    status = answer["status"]
    return read_refusal(status, body, attempted="reading", client_version=version, retry_after=None)


@pytest.mark.parametrize(("name", "wire"), SERVERS)
def test_challenges_and_tokens(name: str, wire: RcarWire) -> None:
    challenges = tokens = 0
    for _, path, answer in exchanges(name):
        if answer["status"] != 200:
            continue
        body = answer["body"].encode()
        if path.endswith("/auth"):
            assert wire.decode_challenge(body).nonce == json.loads(body)["nonce"]
            challenges += 1
        elif path.endswith("/attest"):
            assert wire.decode_token(body).expires_at is not None
            tokens += 1
    assert challenges > 5
    assert tokens > 3


@pytest.mark.parametrize("name", [name for name, _ in SERVERS])
def test_resources_open(name: str) -> None:
    keys = json.loads((RECORDINGS / name).read_text())["tee_keys"]
    algorithms = set()
    for step, path, answer in exchanges(name):
        if answer["status"] == 200 and path.startswith("/kbs/v0/resource/") and answer["body"]:
            envelope = parse_jwe(answer["body"].encode())
            key = TeeKey.from_pem(Secret(keys[step.partition("key ")[2] or "main"]))
            assert open_jwe(envelope, key).reveal() == b"the recorded secret"
            algorithms.add(envelope.alg)
    since_0_12 = {"RSA-OAEP-256", "ECDH-ES+A256KW"}
    assert algorithms == {"RSA1_5"} | (set() if name in OLD_JWE else since_0_12)


@pytest.mark.parametrize(("name", "wire"), SERVERS)
def test_refusals_are_what_they_mean(name: str, wire: RcarWire) -> None:
    seen, expected = set(), OLD_REFUSALS if name in BEFORE_PLUGINS else REFUSALS
    for step, _, answer in exchanges(name):
        if answer["status"] != 200 and step in REFUSALS:
            error = refusal(answer, wire.version)
            assert type(error) is expected[step], step
            seen.add(step)
    assert seen == REFUSALS.keys()


@pytest.mark.parametrize(("name", "wire"), SERVERS[:-1])  # v0.9 does not say it
def test_the_version_it_speaks_can_be_read(name: str, wire: RcarWire) -> None:
    mismatches = [
        error
        for step, _, answer in exchanges(name)
        if step == "wrong version" and answer["status"] != 200
        if is_version_refusal(error := refusal(answer, "0.3.0"))
    ]
    assert len(mismatches) >= 6
    for error in mismatches:
        assert isinstance(error, AttestationRefusedError)
        assert error.expected_version == wire.version
