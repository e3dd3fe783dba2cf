"""TEE keys and tokens of the mock KBS of each generation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mocktee.kbs.era import ERAS
from tests.services.era_pair import OLD, PATH, RSA_KEY, SECRET, pair, problem
from tests.services.kbs_guest import unb64u
from tests.services.kbs_old_guest import JSON


def _tee_keys() -> list[tuple[str, str, str]]:
    accepted = {
        "v0.8": {"RSA1_5"},
        "v0.9": {"RSA1_5"},
        "v0.10": {"RSA1_5"},
        "v0.11": {"RSA1_5"},
        "v0.13": {"RSA1_5", "RSA-OAEP-256", "P-256"},
        "head": {"RSA1_5", "RSA-OAEP-256", "P-256", "P-521"},
    }
    kinds = ("RSA1_5", "RSA-OAEP-256", "P-256", "P-521")
    return [(era, kind, "ok" if kind in accepted[era] else "no") for era in ERAS for kind in kinds]


@pytest.mark.parametrize(("era", "kind", "outcome"), _tee_keys())
async def test_tee_keys(tmp_path: Path, era: str, kind: str, outcome: str) -> None:
    async with pair(tmp_path, era) as p:
        if kind.startswith("RSA"):
            p.guest.key, p.guest.rsa_alg = RSA_KEY, kind
        else:
            curve = ec.SECP256R1() if kind == "P-256" else ec.SECP521R1()
            p.guest.key = ec.generate_private_key(curve)
        if era in ("v0.8", "v0.9") and kind.startswith("P-"):
            await p.guest.auth()
            body: dict[str, Any] = {"tee-pubkey": p.guest.jwk(), "tee-evidence": "{}"}
            headers = JSON | {"Cookie": f"kbs-session-id={p.guest.cookie}"}
            answer = await p.guest.call("POST", "/kbs/v0/attest", body, headers)
            assert answer.body.startswith(b"Json deserialize error: ")
            return
        await p.guest.handshake()
        answer = await p.guest.get(PATH)
        if outcome == "ok":
            assert p.guest.open(answer) == SECRET
        else:
            assert problem(answer)[1] == ("JWEFailed" if era in OLD else "JweError")


@pytest.mark.parametrize("era", ERAS)
async def test_forms_of_the_token(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        token = await p.guest.handshake()
        header, claims = json.loads(unb64u(token.split(".")[0])), p.guest.claims()
    if era in OLD:
        assert header == {"typ": "JWT", "alg": "RS384"}
        assert claims["jwk"]["alg"] == "RS384"
        if era == "v0.8":
            assert claims["tee-pubkey"] == p.guest.jwk()
        else:
            runtime_data = claims["customized_claims"]["runtime_data"]
            assert runtime_data == {"nonce": p.guest.nonce, "tee-pubkey": p.guest.jwk()}
            assert claims["tee"] == "sample"
        assert claims["tcb-status"]["sample.svn"] == "1"
        assert claims["tcb-status"]["report_data"]
    else:
        assert header["alg"] == "ES256"
        assert list(claims["submods"]) == ["cpu0" if era == "head" else "cpu"]


@pytest.mark.parametrize("era", ["v0.11", "v0.13"])
async def test_simple_tokens_where_they_are_a_choice(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era, simple_token=True) as p:
        token = await p.guest.handshake()
        header = json.loads(unb64u(token.split(".")[0]))
        assert (header["alg"], header["jwk"]["alg"]) == ("RS384", "RS384")
        assert json.loads(p.guest.claims()["tcb-status"])["sample.svn"] == "1"
        assert p.guest.open(await p.guest.get(PATH)) == SECRET
