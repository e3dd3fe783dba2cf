"""A guest of any protocol version with TEE ``sample``: raw requests, no checks of its own.

Written from the protocol, for tests of the mock KBS and for recording a real one; shares no code
with either side.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.services.kbs_guest import Answer, TeeKey, jwk_of, open_jwe, unb64u

EARLY = "0.1.0 early"
LATE = "0.1.0 late"
HASHES = {"supported-hash-algorithms": ["sha256", "sha384", "sha512"]}
JSON = {"Content-Type": "application/json"}


def canonical(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest_for(protocol: str, nonce: str, jwk: Mapping[str, str], additional: str) -> bytes:
    if protocol == EARLY:
        bound = (nonce + jwk["n"] + jwk["e"]).encode()
    elif protocol == "0.4.0":
        bound = canonical({"additional-evidence": additional, "nonce": nonce, "tee-pubkey": jwk})
    else:
        bound = canonical({"nonce": nonce, "tee-pubkey": jwk})
    return hashlib.sha384(bound).digest()


def sample_evidence(digest: bytes, svn: str = "1") -> dict[str, str]:
    return {"svn": svn, "report_data": base64.b64encode(digest).decode()}


def device_evidence(nonce: str, jwk: Mapping[str, str]) -> str:
    bound = hashlib.sha384(canonical({"nonce": nonce, "tee-pubkey": jwk})).digest()
    return json.dumps({"sampledevice": sample_evidence(bound, "2")})


def open_any(key: TeeKey, document: Mapping[str, str]) -> bytes:
    """Open a response object of any version."""
    legacy = document["protected"].startswith("{")
    header = json.loads(document["protected"] if legacy else unb64u(document["protected"]))
    if header["alg"] != "RSA1_5":
        return open_jwe(key, document)
    assert isinstance(key, rsa.RSAPrivateKey)
    content_key = key.decrypt(unb64u(document["encrypted_key"]), padding.PKCS1v15())
    sealed = unb64u(document["ciphertext"]) + unb64u(document["tag"])
    authenticated = None if legacy else document["protected"].encode()
    return AESGCM(content_key).decrypt(unb64u(document["iv"]), sealed, authenticated)


@dataclass
class OldGuest:
    """One client with one TEE key."""

    url: str
    protocol: str
    tee: str = "sample"
    key: TeeKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    rsa_alg: str = "RSA1_5"
    device: bool = False
    cookie: str | None = None
    nonce: str = ""
    token: str | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.close()

    @property
    def version(self) -> str:
        return self.protocol.partition(" ")[0]

    def jwk(self) -> dict[str, str]:
        jwk = jwk_of(self.key)
        return jwk | {"alg": self.rsa_alg} if jwk["kty"] == "RSA" else jwk

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self._http.request(
            method, self.url + path, data=data, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    def request_body(self, version: str | None = None) -> dict[str, Any]:
        extra: Any = "" if self.version == "0.1.0" else HASHES
        return {"version": version or self.version, "tee": self.tee, "extra-params": extra}

    async def auth(self, version: str | None = None) -> Answer:
        body = self.request_body(version)
        answer = await self.call("POST", "/kbs/v0/auth", body, JSON)
        if answer.status == 200:
            self.nonce = answer.json()["nonce"]
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
        return answer

    def attestation(self, **changes: Any) -> dict[str, Any]:
        nonce, jwk = changes.get("nonce", self.nonce), self.jwk()
        devices = device_evidence(nonce, jwk) if self.device else ""
        additional = changes.get("additional", devices)
        bound = digest_for(changes.get("binding", self.protocol), nonce, jwk, additional)
        evidence: Any = changes.get("evidence", sample_evidence(bound))
        if self.version == "0.1.0":
            return {"tee-pubkey": jwk, "tee-evidence": json.dumps(evidence)}
        if self.version != "0.4.0":
            return {"tee-pubkey": jwk, "tee-evidence": evidence}
        return {
            "init-data": None,
            "runtime-data": {"nonce": nonce, "tee-pubkey": jwk},
            "tee-evidence": {"primary_evidence": evidence, "additional_evidence": additional},
        }

    async def attest(self, **changes: Any) -> Answer:
        headers = JSON | ({"Cookie": f"kbs-session-id={self.cookie}"} if self.cookie else {})
        body = self.attestation(**changes)
        answer = await self.call("POST", "/kbs/v0/attest", body, headers)
        if answer.status == 200:
            self.token = answer.json()["token"]
        return answer

    async def handshake(self) -> str:
        assert (answer := await self.auth()).status == 200, answer.body
        assert (answer := await self.attest()).status == 200, answer.body
        return str(self.token)

    async def get(self, path: str, *, bearer: str | None = None) -> Answer:
        headers = {"Cookie": f"kbs-session-id={self.cookie}"} if self.cookie else {}
        if bearer:
            headers = {"Authorization": f"Bearer {bearer}"}
        return await self.call("GET", f"/kbs/v0/resource/{path}", headers=headers)

    def claims(self) -> dict[str, Any]:
        claims: dict[str, Any] = json.loads(unb64u(str(self.token).split(".")[1]))
        return claims

    def open(self, answer: Answer) -> bytes:
        return open_any(self.key, answer.json())
