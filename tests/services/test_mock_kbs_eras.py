"""The mock KBS as each generation of servers: what it takes, how it answers, what it refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ServerDisconnectedError
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from mocktee.kbs.era import ERAS
from mocktee.pki import MockPki
from tests.services.kbs_guest import b64u, unb64u
from tests.services.kbs_old_guest import EARLY, JSON, LATE, OldGuest

PKI = MockPki.create()
RSA_KEY = rsa.generate_private_key(65537, 2048)
SECRET = b"the secret of every era"
PATH = "default/key/1"
VERSION_OF = {
    "v0.8": EARLY,
    "v0.9": LATE,
    "v0.10": "0.1.1",
    "v0.11": "0.1.1",
    "v0.13": "0.2.0",
    "head": "0.4.0",
}
OLD = ["v0.8", "v0.9", "v0.10"]
PLUGINS = ["v0.11", "v0.13", "head"]
OPEN = shipped_policy("allow_every_path")


@dataclass(frozen=True)
class Pair:
    kbs: MockKbs
    guest: OldGuest


@asynccontextmanager
async def pair(folder: Path, era: str, **options: Any) -> AsyncIterator[Pair]:
    ec_key = ec.generate_private_key(ec.SECP256R1())
    key = ec_key if era in ("v0.13", "head") else RSA_KEY
    settings = KbsOptions(tls=False, era=era, verbose_refusals=False, **options)
    async with (
        MockKbs.start(folder, PKI, settings) as kbs,
        OldGuest(kbs.url, VERSION_OF[era], key=key) as guest,
    ):
        kbs.put_resource(PATH, SECRET)
        kbs.set_resource_policy(OPEN)
        yield Pair(kbs, guest)


def problem(answer: Any) -> tuple[int, str, str]:
    assert "Content-Type" not in answer.headers
    return answer.status, answer.problem, answer.detail


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


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("version", ["0.0.9", "0.1.0", "0.1.1", "0.2.0", "0.3.0", "0.4.0"])
async def test_versions(tmp_path: Path, era: str, version: str) -> None:
    own = VERSION_OF[era].partition(" ")[0]
    async with pair(tmp_path, era) as p:
        answer = await p.guest.auth(version)
        if version == own or (own == "0.1.0" and version == "0.0.9"):
            assert answer.status == 200
            return
        status, variant, detail = problem(answer)
    assert status == 401
    if era in ("v0.8", "v0.9"):
        assert variant == "FailedAuthentication"
        assert detail == f"Authentication failed: Session: Invalid Request version {version}"
    elif era == "v0.10":
        assert variant == "ProtocolVersion"
        assert detail == (
            "KBS Client Protocol Version Mismatch: "
            f"expected version: =0.1.1, requested version: {version}"
        )
    else:
        assert variant == "AttestationError"
        assert detail == (
            "Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version "
            f"Mismatch: expect ={own} while the request is {version}"
        )


async def test_recorded_refusals_of_versions(tmp_path: Path, shared_vectors: Path) -> None:
    recorded = json.loads((shared_vectors / "kbs/rcar/errors.json").read_text())["cases"]
    for era, case, version in (("head", 0, "0.2.0"), ("v0.10", 1, "0.1.0"), ("v0.9", 2, "0.1.1")):
        async with pair(tmp_path / era, era) as p:
            answer = await p.guest.auth(version)
            assert answer.status == recorded[case]["status"]
            assert answer.json() == recorded[case]["body"]


@pytest.mark.parametrize(
    ("era", "detail"),
    [
        ("v0.9", "Authentication failed: Session: unexpected character 'n' while parsing major"),
        ("v0.11", "Attestation error: RCAR handshake Auth failed: failed to parse KBS version"),
        ("head", "Attestation error: RCAR handshake Auth failed: failed to parse KBS version"),
    ],
)
async def test_a_version_that_is_none(tmp_path: Path, era: str, detail: str) -> None:
    async with pair(tmp_path, era) as p:
        assert problem(await p.guest.auth("nonsense"))[2].startswith(detail)


async def test_the_panic_of_v0_10(tmp_path: Path) -> None:
    async with pair(tmp_path, "v0.10") as p:
        with pytest.raises(ServerDisconnectedError):
            await p.guest.auth("nonsense")
        await p.guest.handshake()


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
async def test_the_short_form_of_paths(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        await p.guest.handshake()
        answer = await p.guest.get("key/1")
        if era in [*OLD, "v0.11"]:
            assert p.guest.open(answer) == SECRET
        else:
            assert problem(answer)[1] == "PluginInternalError"


@pytest.mark.parametrize(
    ("era", "condition"),
    [
        ("v0.9", 'data["resource-path"] == "default/key/1"'),
        ("v0.10", 'data["resource-path"] == "default/key/1"'),
        ("v0.11", 'data["resource-path"] == "resource/default/key/1"'),
        ("v0.13", 'data["resource-path"] == "resource/default/key/1"'),
        ("head", 'data["resource-path"] == ["default", "key", "1"]'),
    ],
)
async def test_what_a_resource_policy_sees(tmp_path: Path, era: str, condition: str) -> None:
    async with pair(tmp_path, era) as p:
        p.kbs.put_resource("default/key/2", SECRET)
        p.kbs.set_resource_policy(
            f"package policy\ndefault allow = false\nallow {{\n  {condition}\n}}\n"
        )
        await p.guest.handshake()
        assert p.guest.open(await p.guest.get(PATH)) == SECRET
        denied = problem(await p.guest.get("default/key/2"))
        assert denied[1] == ("PolicyReject" if era in OLD else "PolicyDeny")


@pytest.mark.parametrize("era", ERAS)
async def test_the_default_policy_and_the_software_tee(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        p.kbs.set_resource_policy(shipped_policy(ERAS[era].default_policy))
        await p.guest.handshake()
        assert (await p.guest.get(PATH)).status == (200 if era == "v0.8" else 401)


async def test_v0_8_evaluates_the_policy_and_ignores_the_verdict(tmp_path: Path) -> None:
    async with pair(tmp_path, "v0.8") as p:
        await p.guest.handshake()
        p.kbs.set_resource_policy(shipped_policy("deny_all"))
        assert p.guest.open(await p.guest.get(PATH)) == SECRET
        p.kbs.set_resource_policy("package policy\n")
        status, variant, detail = problem(await p.guest.get(PATH))
        assert (status, variant) == (401, "PolicyEngineFailed")
        assert detail.endswith('Policy Engine output must contain "allow" boolean value')


@pytest.mark.parametrize("era", ERAS)
async def test_attest_again(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        first = await p.guest.handshake()
        again = await p.guest.attest(evidence={})
        if era == "v0.8":
            assert again.status == 401  # judged anew
        else:
            assert again.json() == {"token": first}


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


async def test_policy_texts_are_taken_as_base64url(tmp_path: Path) -> None:
    for era in ERAS:
        async with pair(tmp_path / era, era) as p:
            headers = JSON | {"Authorization": f"Bearer {p.kbs.admin_token}"}
            body = {"policy": b64u(OPEN.encode())}
            answer = await p.guest.call("POST", "/kbs/v0/resource-policy", body, headers)
            assert (answer.status, answer.body) == (200, b"")


async def test_an_expired_session_says_so_up_to_v0_10(tmp_path: Path) -> None:
    for era, variant in (("v0.9", "ExpiredCookie"), ("v0.13", "AttestationError")):
        now = [1_800_000_000.0]
        async with pair(tmp_path / era, era, clock=lambda now=now: now[0]) as p:
            await p.guest.auth()
            now[0] += 300
            assert problem(await p.guest.attest())[1] == variant
