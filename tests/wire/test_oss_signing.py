"""OSS signatures against vectors that two independent implementations agreed on.

Origin: computed with oss2 2.19.1 and a second implementation for fixed times and an invented key.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import oss2.auth
import oss2.utils
import pytest

from ossmount.launch import Credentials
from ossmount.signing import OssSigner
from secrecy import Secret

BUCKET = "examplebucket"
V1_DATE = "Fri, 24 Feb 2012 06:38:30 GMT"


@dataclass(frozen=True)
class Vector:
    name: str
    signature: str
    method: str = "GET"
    key: str = ""
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    token: str | None = None


LISTING = {"prefix": "a/", "delimiter": "/", "max-keys": "100"}
PLAIN = {"Content-Type": "text/plain"}
MODE = {"x-oss-meta-mode": "33188"}
MD5 = {"Content-MD5": "eB5eJF1ptWaXm4bijSPyxw=="}

V1 = [
    Vector("get", "5L2NpiW4yRGBsuLrhsezhPAaTWg=", key="dir/file 1.txt"),
    Vector("put", "H2l40H13pjrCpDCDXUXtfCOhySg=", "PUT", "a.txt", headers=PLAIN | MD5 | MODE),
    Vector("list", "RSJ2RubcExEocMYLpl6OucnZm8E=", params=LISTING | {"encoding-type": "url"}),
    Vector("token", "/ZAmsg6mnwRRNfSb5ePU6Jnnkk4=", params={"continuation-token": "CgJhYQ--"}),
    Vector("sts", "1jhV95bNJ3yfqXNDXtuEj+c/AHE=", "HEAD", "a.txt", token="TOKEN123"),
]
V4 = [
    Vector(
        "get",
        "b66daf3b2d8509172ba992dae9e7f19ff0210783473f0b6310bf08c0e8367d34",
        key="dir/file 1.txt",
    ),
    Vector(
        "put",
        "a449d670df2db4da2b57792dcc575fe80f45dc3a81de1fa0991fa49c41e04233",
        "PUT",
        "a.txt",
        headers=PLAIN | MODE,
    ),
    Vector(
        "list",
        "d32cad2ddc7fb3c0d1a28c597ee88faf3af13da82c4bec0b5fa3af0748a39756",
        params=LISTING | {"list-type": "2"},
    ),
    Vector(
        "sts",
        "fc430e008139e7f4f343d44172568a26dbea51f3229fe105a354023c7a286d27",
        "HEAD",
        "a.txt",
        token="TOKEN123",
    ),
]


class FixedMoment(datetime):
    """The moment of the V4 vectors, whenever the library asks."""

    @classmethod
    def utcnow(cls) -> Self:
        return cls(2023, 12, 3, 12, 12, 12)


def credentials(token: str | None) -> Credentials:
    return Credentials(
        Secret("LTAIexampleid"),
        Secret("exampleSecretKey0123456789"),
        None if token is None else Secret(token),
    )


@pytest.mark.parametrize("vector", V1, ids=lambda vector: vector.name)
def test_v1(vector: Vector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oss2.utils, "http_date", lambda: V1_DATE)
    signer = OssSigner(credentials(vector.token), BUCKET, version="v1", region=None)
    headers = signer.sign(vector.method, vector.key, vector.params, vector.headers)
    assert headers["authorization"] == f"OSS LTAIexampleid:{vector.signature}"
    assert headers["date"] == V1_DATE


@pytest.mark.parametrize("vector", V4, ids=lambda vector: vector.name)
def test_v4(vector: Vector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oss2.auth, "datetime", FixedMoment)
    signer = OssSigner(credentials(vector.token), BUCKET, version="v4", region="cn-hangzhou")
    headers = signer.sign(vector.method, vector.key, vector.params, vector.headers)
    scope = "20231203/cn-hangzhou/oss/aliyun_v4_request"
    assert headers["authorization"] == (
        f"OSS4-HMAC-SHA256 Credential=LTAIexampleid/{scope}, Signature={vector.signature}"
    )


def test_nothing_is_compressed_and_no_header_is_empty() -> None:
    signer = OssSigner(credentials(None), BUCKET, version="v4", region="cn-hangzhou")
    headers = signer.sign("GET", "a", {}, {})
    assert headers["Accept-Encoding"] == "identity"
    assert all(headers.values())


def test_the_library_never_logs_what_it_signs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        OssSigner(credentials("TOKEN123"), BUCKET, version="v1", region=None).sign(
            "GET", "a", {}, {}
        )
    assert caplog.records == []
