"""A guest small enough to read: the RCAR handshake of KBS protocol 0.4.0 and the opening of JWEs.

Written from the protocol, for tests of the mock KBS; shares no code with it or with the product.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4
from mocktee.td import TdState

TeeKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
END_OF_LOG = b"\xff" * 8
EC_ALG = "ECDH-ES+A256KW"


def b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwk_of(key: TeeKey) -> dict[str, str]:
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = key.public_key().public_numbers().n
        return {
            "kty": "RSA",
            "alg": "RSA-OAEP-256",
            "n": b64u(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")),
            "e": "AQAB",
        }
    numbers, size = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
    return {
        "kty": "EC",
        "crv": {256: "P-256", 521: "P-521"}[key.curve.key_size],
        "alg": EC_ALG,
        "x": b64u(numbers.x.to_bytes(size, "big")),
        "y": b64u(numbers.y.to_bytes(size, "big")),
    }


def open_jwe(key: TeeKey, jwe: Mapping[str, str]) -> bytes:
    header = json.loads(unb64u(jwe["protected"]))
    wrapped = unb64u(jwe["encrypted_key"])
    if isinstance(key, rsa.RSAPrivateKey):
        scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        content_key = key.decrypt(wrapped, scheme)
    else:
        x, y = (int.from_bytes(unb64u(header["epk"][name]), "big") for name in "xy")
        peer = ec.EllipticCurvePublicNumbers(x, y, key.curve).public_key()
        other = struct.pack(">I", len(EC_ALG)) + EC_ALG.encode() + struct.pack(">III", 0, 0, 256)
        shared = key.exchange(ec.ECDH(), peer)
        kek = hashlib.sha256(struct.pack(">I", 1) + shared + other).digest()
        content_key = aes_key_unwrap(kek, wrapped)
    sealed = unb64u(jwe["ciphertext"]) + unb64u(jwe["tag"])
    return AESGCM(content_key).decrypt(unb64u(jwe["iv"]), sealed, jwe["protected"].encode())


def report_data(nonce: str, jwk: Mapping[str, Any], additional: str = "") -> bytes:
    bound = {"additional-evidence": additional, "nonce": nonce, "tee-pubkey": jwk}
    text = json.dumps(bound, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha384(text.encode()).digest().ljust(64, b"\0")


def tdx_evidence(
    pki: MockPki, td: TdState, bound: bytes, log: bytes | None = None
) -> dict[str, Any]:
    log = td.boot_log.encode() + END_OF_LOG if log is None else log
    quote = build_quote_v4(pki, bound, td)
    return {
        "quote": base64.b64encode(quote).decode(),
        "cc_eventlog": base64.b64encode(log).decode() if log else None,
    }


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        return str(self.json()["type"]).rsplit("/", 1)[-1]

    @property
    def detail(self) -> str:
        return str(self.json()["detail"])


@dataclass
class Guest:
    """One client with one TEE key. Its cookie is kept by hand, so a test can take another's."""

    url: str
    pki: MockPki
    ca: str | None = None
    td: TdState = field(default_factory=TdState.booted)
    key: TeeKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    cookie: str | None = None
    nonce: str = ""
    token: str | None = None

    async def __aenter__(self) -> Self:
        trust = ssl.create_default_context(cafile=self.ca) if self.ca else True
        connector = aiohttp.TCPConnector(ssl=trust)
        self._http = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.close()

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        bearer: str | None = None,
        with_cookie: bool = True,
    ) -> Answer:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        if self.cookie and with_cookie:
            headers["Cookie"] = f"kbs-session-id={self.cookie}"
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self._http.request(
            method, self.url + path, data=data, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def auth(self, version: str = "0.4.0", tee: str = "tdx") -> Answer:
        request = {"version": version, "tee": tee, "extra-params": {}}
        answer = await self.call("POST", "/kbs/v0/auth", request, with_cookie=False)
        if answer.status == 200:
            self.nonce = answer.json()["nonce"]
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
        return answer

    def attestation(self, **changes: Any) -> dict[str, Any]:
        nonce, jwk = changes.pop("nonce", self.nonce), changes.pop("jwk", jwk_of(self.key))
        bound = changes.pop("report_data", None) or report_data(nonce, jwk)
        evidence = changes.pop("evidence", None) or tdx_evidence(
            self.pki, self.td, bound, changes.pop("log", None)
        )
        return {
            "init-data": changes.pop("init_data", None),
            "runtime-data": {"nonce": nonce, "tee-pubkey": jwk},
            "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""},
        }

    async def attest(self, **changes: Any) -> Answer:
        answer = await self.call("POST", "/kbs/v0/attest", self.attestation(**changes))
        if answer.status == 200:
            self.token = answer.json()["token"]
        return answer

    async def handshake(self) -> str:
        assert (await self.auth()).status == 200
        answer = await self.attest()
        assert answer.status == 200, answer.body
        return str(self.token)

    def claims(self) -> dict[str, Any]:
        claims: dict[str, Any] = json.loads(unb64u(str(self.token).split(".")[1]))
        return claims

    def open(self, answer: Answer) -> bytes:
        return open_jwe(self.key, answer.json())
