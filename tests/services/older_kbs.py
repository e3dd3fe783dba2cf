"""KBSes of every protocol version in miniature: strict about what each version is strict about.

Shares no code with ``kbs`` and with the mock KBS of the harness. Takes TEE ``sample`` only, whose
evidence shows the digest, and computes the expected one by hand.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.services.fake_kbs import problem
from tests.wire.kbs_sealing import make_token, seal, seal_legacy

MISMATCH: Final = "KBS Client Protocol Version Mismatch: "


@dataclass(frozen=True)
class Era:
    """What one generation of servers takes."""

    version: str
    text_forms: bool = False  # extra-params and evidence are strings
    early_binding: bool = False
    legacy_jwe: bool = False
    nested: bool = False  # the body of 0.4.0
    trusts_bearer: bool = True


ERAS: Final = {
    "0.1.0 early": Era("0.1.0", text_forms=True, early_binding=True, legacy_jwe=True),
    "0.1.0 late": Era("0.1.0", text_forms=True, legacy_jwe=True),
    "0.1.1": Era("0.1.1", legacy_jwe=True),
    "0.2.0": Era("0.2.0"),
    "0.4.0": Era("0.4.0", nested=True),
}


@dataclass
class Session:
    nonce: str
    token: str = ""


@dataclass
class OlderKbs:
    """One server. ``trusted`` are tokens, its own and those of others, with their keys."""

    era: Era
    url: str = ""
    resources: dict[str, bytes] = field(default_factory=lambda: {"default/key/1": b"the secret"})
    trusted: dict[str, dict[str, str]] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    auths: list[str] = field(default_factory=list)
    attests: int = 0
    devices: list[str] = field(default_factory=list)
    cookies_seen: list[str | None] = field(default_factory=list)

    async def auth(self, request: web.Request) -> web.Response:
        if self.era.text_forms and request.content_type != "application/json":
            return web.Response(status=400, text="Content type error")
        message = json.loads(await request.read())
        self.auths.append(message["version"])
        if self.era.text_forms and not isinstance(message["extra-params"], str):
            text = "Json deserialize error: invalid type: map, expected a string"
            return web.Response(status=400, text=text)
        if message["version"] != self.era.version:
            return self._version_refused(message["version"])
        session_id, nonce = secrets.token_hex(16), base64.b64encode(secrets.token_bytes(32))
        self.sessions[session_id] = Session(nonce.decode())
        answer = web.json_response({"nonce": nonce.decode(), "extra-params": ""})
        answer.headers["Set-Cookie"] = f"kbs-session-id={session_id}; Expires=later"
        return answer

    def _version_refused(self, version: str) -> web.Response:
        match self.era.version:
            case "0.1.0":
                detail = f"Authentication failed: Session: Invalid Request version {version}"
                return problem(401, "FailedAuthentication", detail)
            case "0.1.1":
                detail = f"{MISMATCH}expected version: =0.1.1, requested version: {version}"
                return problem(401, "ProtocolVersion", detail)
            case expected:
                detail = f"Attestation error: RCAR handshake Auth failed: {MISMATCH}"
                detail += f"expect ={expected} while the request is {version}"
                return problem(401, "AttestationError", detail)

    async def attest(self, request: web.Request) -> web.Response:
        self.attests += 1
        message = json.loads(await request.read())
        session = self.sessions[request.cookies["kbs-session-id"]]
        try:
            key = self._judged(message, session.nonce)
        except (AssertionError, KeyError, TypeError, ValueError):
            kind = "AttestationFailed" if self.era.legacy_jwe else "AttestationError"
            return problem(401, kind, "RCAR handshake Attest failed")
        session.token = make_token({"exp": time.time() + 300, "n": self.attests})
        self.trusted[session.token] = key
        return web.json_response({"token": session.token})

    def _judged(self, message: dict[str, Any], nonce: str) -> dict[str, str]:
        devices = ""
        if self.era.nested:
            key = message["runtime-data"]["tee-pubkey"]
            assert message["runtime-data"]["nonce"] == nonce
            evidence = message["tee-evidence"]["primary_evidence"]
            devices = message["tee-evidence"]["additional_evidence"]
        else:
            key, evidence = message["tee-pubkey"], message["tee-evidence"]
            assert isinstance(evidence, str) == self.era.text_forms
            evidence = json.loads(evidence) if self.era.text_forms else evidence
        assert not self.era.legacy_jwe or key["alg"] == "RSA1_5"
        assert base64.b64decode(evidence["report_data"]) == self._expected(nonce, key, devices)
        if devices:
            plain = _canonical({"nonce": nonce, "tee-pubkey": key})
            for device in json.loads(devices).values():
                assert base64.b64decode(device["report_data"]) == plain
            self.devices.append(devices)
        return dict(key)

    def _expected(self, nonce: str, key: dict[str, str], devices: str) -> bytes:
        if self.era.early_binding:
            return hashlib.sha384((nonce + key["n"] + key["e"]).encode()).digest()
        bound: dict[str, Any] = {"nonce": nonce, "tee-pubkey": key}
        return _canonical(bound | ({"additional-evidence": devices} if self.era.nested else {}))

    async def resource(self, request: web.Request) -> web.Response:
        cookie = request.cookies.get("kbs-session-id")
        self.cookies_seen.append(cookie)
        session = self.sessions.get(cookie or "")
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = session.token if session is not None and session.token else bearer
        if token not in self.trusted or (session is None and not self.era.trusts_bearer):
            return problem(401, "TokenVerifierError", "Token Verifier error")
        sealer = seal_legacy if self.era.legacy_jwe else seal
        return web.json_response(
            sealer(self.trusted[token], self.resources[request.match_info["path"]])
        )


def _canonical(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha384(text.encode()).digest()


@asynccontextmanager
async def serving(era: Era) -> AsyncIterator[OlderKbs]:
    """Serve on a free loopback port until the block ends."""
    kbs = OlderKbs(era)
    application = web.Application()
    application.router.add_post("/kbs/v0/auth", kbs.auth)
    application.router.add_post("/kbs/v0/attest", kbs.attest)
    application.router.add_get("/kbs/v0/resource/{path:.+}", kbs.resource)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        kbs.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield kbs
    finally:
        await runner.cleanup()
