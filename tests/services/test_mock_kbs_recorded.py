"""The mock KBS against recordings of real ones: the same requests must get the same answers.

Sessions of the mock take the recorded nonces, so recorded evidence is good for them; cookies,
tokens and the admin's credential are exchanged for its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mocktee.kbs import KbsOptions, MockKbs
from mocktee.pki import MockPki
from tests.services.kbs_guest import Answer, TeeKey, unb64u
from tests.services.kbs_old_guest import open_any

RECORDINGS = Path(__file__).parents[1] / "wire" / "vectors" / "kbs"
PKI = MockPki.create()
# Where the texts of two Rego engines, base64 decoders and verifiers cannot be alike. Up to v0.10
# the cause of a refusal is in the answer.
OWN_WORDS = {"bad policy"}
OWN_CAUSES = {
    *("wrong digest", "wrong nonce", "malformed evidence", "bad bearer", "undefined"),
    *("missing resource", "bad paths"),
    *("key RSA-OAEP-256", "key P-256", "key P-521", "key device"),
}
PARSER = "Json deserialize error: "


def recording(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text())


class Replay:
    """Plays recorded requests on a mock KBS."""

    def __init__(self, kbs: MockKbs, http: aiohttp.ClientSession) -> None:
        self._kbs = kbs
        self._http = http
        self._own = {"{admin}": kbs.admin_token}

    async def play(self, exchange: Mapping[str, Any]) -> Answer:
        request, recorded = exchange["request"], exchange["answer"]
        body = request["body"]
        data = json.dumps(body) if isinstance(body, dict) else body
        headers = {name: self._exchanged(text) for name, text in request["headers"].items()}
        async with self._http.request(
            request["method"],
            self._kbs.url + request["path"],
            data=None if data is None else data.encode(),
            headers=headers,
        ) as response:
            answer = Answer(response.status, response.headers, await response.read())
        if recorded["status"] == answer.status == 200:
            self._learn(request["path"], recorded, answer)
        return answer

    def _exchanged(self, text: str) -> str:
        for recorded, own in self._own.items():
            text = text.replace(recorded, own)
        return text

    def _learn(self, path: str, recorded: Mapping[str, Any], answer: Answer) -> None:
        if path == "/kbs/v0/auth":
            identifier = session_id(answer.headers["Set-Cookie"])
            session = self._kbs.sessions.find(identifier)
            assert session is not None
            session.nonce = json.loads(recorded["body"])["nonce"]
            self._own[session_id(recorded["set-cookie"])] = identifier
        elif path == "/kbs/v0/attest":
            self._own[json.loads(recorded["body"])["token"]] = answer.json()["token"]


def session_id(cookie: str) -> str:
    return cookie.partition(";")[0].partition("=")[2]


def shape(value: object) -> object:
    """Names and types; the values of tokens differ."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in sorted(value.items())}
    return type(value).__name__


def comparable(text: str) -> object:
    """What has to be equal of two bodies."""
    try:
        body = json.loads(text)
    except ValueError:
        return text
    match body:
        case {"token": str(token)}:
            return [shape(json.loads(unb64u(part))) for part in token.split(".")[:2]]
        case {"nonce": str(nonce)}:
            return {**body, "nonce": len(nonce)}
        case {"protected": str(protected)}:
            header = shape(json.loads(protected if protected[0] == "{" else unb64u(protected)))
            return [header, {name: len(text) for name, text in body.items()}]
        case _:
            return body


def kind(text: str) -> str:
    """The type of a problem document; the text itself if it is none."""
    return str(json.loads(text)["type"]) if text.startswith("{") else text


def attributes(cookie: str | None) -> list[str] | None:
    return None if cookie is None else [part.partition("=")[0] for part in cookie.split("; ")]


def assert_alike(exchange: Mapping[str, Any], answer: Answer, *, old: bool = False) -> None:
    recorded, step = exchange["answer"], exchange.get("step")
    assert answer.status == recorded["status"]
    assert answer.headers.get("Content-Type") == recorded["content-type"]
    assert attributes(answer.headers.get("Set-Cookie")) == attributes(recorded["set-cookie"])
    text = answer.body.decode()
    if text.startswith(PARSER):
        assert recorded["body"].startswith(PARSER)
    elif answer.status != 200 and step in OWN_WORDS | (OWN_CAUSES if old else set()):
        assert kind(text) == kind(recorded["body"])
    else:
        assert comparable(text) == comparable(recorded["body"])


@asynccontextmanager
async def replaying(folder: Path, era: str) -> AsyncIterator[Replay]:
    options = KbsOptions(tls=False, era=era, verbose_refusals=False)
    async with (
        MockKbs.start(folder, PKI, options) as kbs,
        aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=["Content-Type"]
        ) as http,
    ):
        yield Replay(kbs, http)


def key_of(pem: str) -> TeeKey:
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return key


@pytest.mark.parametrize(
    ("name", "era"),
    [
        ("trustee-head.json", "head"),
        ("trustee-v0.13.json", "v0.13"),
        ("trustee-v0.11.json", "v0.11"),
        ("trustee-v0.10.json", "v0.10"),
        ("trustee-v0.9.json", "v0.9"),
    ],
)
async def test_the_mock_answers_as_the_real_server(tmp_path: Path, name: str, era: str) -> None:
    recorded = recording(name)
    opened = 0
    async with replaying(tmp_path, era) as replay:
        for number, exchange in enumerate(recorded["exchanges"]):
            if exchange["answer"] is None:  # the handler panicked
                with pytest.raises(aiohttp.ServerDisconnectedError):
                    await replay.play(exchange | {"answer": {"status": 0}})
                continue
            answer = await replay.play(exchange)
            try:
                assert_alike(exchange, answer, old=era in ("v0.9", "v0.10"))
            except AssertionError as error:
                error.add_note(f"exchange {number}, {exchange['step']}: {exchange['request']}")
                raise
            if b'"protected"' in answer.body:
                pem = recorded["tee_keys"][exchange["step"].partition("key ")[2] or "main"]
                key, theirs = key_of(pem), json.loads(exchange["answer"]["body"])
                assert open_any(key, answer.json()) == open_any(key, theirs)
                opened += 1
    assert opened > 5


def played_by(client: str) -> list[Any]:
    exchanges = recording("reference-clients.json")["exchanges"]
    found = [exchange for exchange in exchanges if exchange["client"] == client]
    assert len(found) > 2
    return found


async def test_the_reference_clients_are_answered_alike(tmp_path: Path) -> None:
    async with replaying(tmp_path, "head") as replay:
        for exchange in played_by("kbs-client"):
            assert_alike(exchange, await replay.play(exchange))


async def test_the_reference_attester_with_device_and_initdata(tmp_path: Path) -> None:
    options = KbsOptions(tls=False, verbose_refusals=False)
    async with MockKbs.start(tmp_path, PKI, options) as kbs, aiohttp.ClientSession() as http:
        kbs.set_resource_policy("package policy\ndefault allow = true\n")
        kbs.put_resource("default/key/1", b"the recorded secret")
        # The values that the recorded server knew make no difference but to the trust vector.
        replay = Replay(kbs, http)
        for exchange in played_by("trustee-attester"):
            assert_alike(exchange, await replay.play(exchange))
