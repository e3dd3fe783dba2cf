"""The mock KBS as each generation of servers: what it takes, how it answers, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mocktee.kbs import shipped_policy
from mocktee.kbs.era import ERAS
from tests.services.era_pair import OLD, PATH, PLUGINS, SECRET, pair, problem
from tests.services.kbs_old_guest import EARLY, JSON, LATE


@pytest.mark.parametrize("era", ERAS)
async def test_a_guest_of_its_time_gets_the_secret(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        answer = await p.guest.auth()
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json()["extra-params"] == ""
        await p.guest.attest()
        answer = await p.guest.get(PATH)
        document = answer.json()
        assert p.guest.open(answer) == SECRET
        legacy = era not in ("v0.13", "head")
        assert document["protected"].startswith("{") == legacy
        assert (document["tag"] == "") == legacy
        bearer = await p.guest.get(PATH, bearer=p.guest.token)
        assert p.guest.open(bearer) == SECRET


@pytest.mark.parametrize(
    ("version", "era"),
    [
        ("0.1.0 early", "v0.8"),
        ("0.1.0 late", "v0.9"),
        ("0.1.1", "v0.10"),
        ("0.1.1", "v0.11"),
        ("0.2.0", "v0.13"),
        ("0.4.0", "head"),
        ("0.4.0 with init-data and a device", "head"),
    ],
)
async def test_recorded_bodies(
    tmp_path: Path, shared_vectors: Path, version: str, era: str
) -> None:
    recorded = json.loads((shared_vectors / "kbs/rcar/bodies-by-version.json").read_text())
    bodies = recorded["versions"][version]
    keys = json.loads((shared_vectors / "kbs/jwe/tee-keys.json").read_text())
    pem = keys["rsa1_5" if era in [*OLD, "v0.11"] else "ec-p256"]["tee_keypair_pem"]
    async with pair(tmp_path, era) as p:
        answer = await p.guest.call("POST", "/kbs/v0/auth", bodies["auth"], JSON)
        assert answer.json().keys() == bodies["challenge"].keys()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        session = p.kbs.sessions.find(cookie.partition("=")[2])
        assert session is not None
        session.nonce = bodies["challenge"]["nonce"]
        headers = JSON | {"Cookie": cookie}
        answer = await p.guest.call("POST", "/kbs/v0/attest", bodies["attest"], headers)
        assert answer.status == 200, answer.body
        key = load_pem_private_key(pem.encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        p.guest.key, p.guest.cookie = key, cookie.partition("=")[2]
        assert p.guest.open(await p.guest.get(PATH)) == SECRET


@pytest.mark.parametrize(("era", "binding"), [("v0.8", LATE), ("v0.9", EARLY)])
async def test_the_other_binding_of_0_1_0(tmp_path: Path, era: str, binding: str) -> None:
    async with pair(tmp_path, era) as p:
        await p.guest.auth()
        status, variant, detail = problem(await p.guest.attest(binding=binding))
        assert (status, variant) == (401, "AttestationFailed")
        assert detail.startswith("Attestation failed: report data of TEE sample does not bind")


@pytest.mark.parametrize("era", OLD)
async def test_bodies_go_through_the_framework(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        answer = await p.guest.call("POST", "/kbs/v0/auth", p.guest.request_body())
        assert (answer.status, answer.body) == (400, b"Content type error")
        answer = await p.guest.call("POST", "/kbs/v0/auth", b"{", JSON)
        assert answer.status == 400
        assert answer.body.startswith(b"Json deserialize error: ")
        assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("era", ["v0.8", "v0.9"])
async def test_an_object_in_extra_params_is_too_new(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        body = p.guest.request_body() | {"extra-params": {}}
        assert (await p.guest.call("POST", "/kbs/v0/auth", body, JSON)).status == 400


@pytest.mark.parametrize("era", PLUGINS)
async def test_the_kbs_parses_bodies_itself(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        answer = await p.guest.call("POST", "/kbs/v0/auth", p.guest.request_body())
        assert answer.status == 200
        answer = await p.guest.call("POST", "/kbs/v0/auth", b"{", JSON)
        assert problem(answer)[2].endswith("Auth failed: deserialize Request")


@pytest.mark.parametrize("era", OLD)
async def test_refusals_up_to_v0_10(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        assert problem(await p.guest.get(PATH))[1] == "InvalidRequest"
        assert problem(await p.guest.attest()) == (401, "MissingCookie", "The cookie is missing")
        p.guest.cookie = "0" * 32
        assert problem(await p.guest.attest()) == (401, "InvalidCookie", "The cookie is invalid")
        await p.guest.handshake()
        status, variant, detail = problem(await p.guest.get("default/key/none"))
        assert (status, variant) == (404, "ReadSecretFailed")
        assert detail.startswith("Read secret failed: ")
        assert problem(await p.guest.get("default/.key/1"))[1] == "ReadSecretFailed"
        bad = await p.guest.get(PATH, bearer="a.b.c")
        assert problem(bad)[1] == "TokenParseFailed"
        answer = await p.guest.get("a/b/c/d")
        assert (answer.status, answer.body) == (404, b"")


@pytest.mark.parametrize("era", PLUGINS)
async def test_refusals_from_v0_11(tmp_path: Path, shared_vectors: Path, era: str) -> None:
    recorded = json.loads((shared_vectors / "kbs/rcar/errors.json").read_text())["cases"]
    by_meaning = {case["meaning"]: (case["status"], case["body"]) for case in recorded}

    def expected(meaning: str) -> tuple[int, Any]:
        return next(value for key, value in by_meaning.items() if key.startswith(meaning))

    async with pair(tmp_path, era) as p:
        no_token = await p.guest.get(PATH)
        await p.guest.auth()
        forged = await p.guest.attest(evidence={"svn": "1", "report_data": "AAAA"})
        await p.guest.handshake()
        missing = await p.guest.get("default/key/none")
        malformed = await p.guest.get("a/b/c/d")
        token = await p.guest.get(PATH, bearer="a.b.c")
        plugin = await p.guest.call("GET", "/kbs/v0/nosuch/a")
        p.kbs.set_resource_policy(shipped_policy("deny_all"))
        denied = await p.guest.get(PATH)
    for answer, meaning in (
        (no_token, "neither a session cookie"),
        (forged, "evidence refused"),
        (missing, "no such resource, malformed"),
        (malformed, "no such resource, malformed"),
        (token, "token expired"),
        (plugin, "first path segment"),
        (denied, "resource policy said no"),
    ):
        assert (answer.status, answer.json()) == expected(meaning)


@pytest.mark.parametrize("era", ERAS)
async def test_attest_again(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        first = await p.guest.handshake()
        again = await p.guest.attest(evidence={})
        if era == "v0.8":
            assert again.status == 401  # judged anew
        else:
            assert again.json() == {"token": first}


async def test_an_expired_session_says_so_up_to_v0_10(tmp_path: Path) -> None:
    for era, variant in (("v0.9", "ExpiredCookie"), ("v0.13", "AttestationError")):
        now = [1_800_000_000.0]
        async with pair(tmp_path / era, era, clock=lambda now=now: now[0]) as p:
            await p.guest.auth()
            now[0] += 300
            assert problem(await p.guest.attest())[1] == variant
