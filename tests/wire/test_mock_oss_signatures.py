"""The mock server's signature functions against published vectors and against the SDK's signer.

The vectors were computed with the oss2 SDK and checked against a second implementation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mocktee.oss.authentication import AccessKey, Authenticator
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.request import OssRequest
from mocktee.oss.signature import (
    Scope,
    v1_signature,
    v1_string_to_sign,
    v4_canonical_request,
    v4_signature,
    v4_string_to_sign,
)

KEY = AccessKey("LTAIexampleid", "exampleSecretKey0123456789")
BUCKET = "examplebucket"
V1_DATE = "Fri, 24 Feb 2012 06:38:30 GMT"
V1_TIME = 1330065510.0
V4_DATE = "20231203T121212Z"
V4_TIME = 1701605532.0
SCOPE = Scope("20231203", "cn-hangzhou")


@dataclass(frozen=True)
class Vector:
    name: str
    method: str
    key: str
    signature: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, extra: dict[str, str]) -> OssRequest:
        return OssRequest(self.method, BUCKET, self.key, self.query, self.headers | extra)


LISTING = {"prefix": "a/", "delimiter": "/", "max-keys": "100", "encoding-type": "url"}

V1_VECTORS = [
    Vector("get", "GET", "dir/file 1.txt", "5L2NpiW4yRGBsuLrhsezhPAaTWg="),
    Vector(
        "put",
        "PUT",
        "a.txt",
        "H2l40H13pjrCpDCDXUXtfCOhySg=",
        headers={
            "content-type": "text/plain",
            "content-md5": "eB5eJF1ptWaXm4bijSPyxw==",
            "x-oss-meta-mode": "33188",
        },
    ),
    Vector("list", "GET", "", "RSJ2RubcExEocMYLpl6OucnZm8E=", query=LISTING),
    Vector(
        "list with token",
        "GET",
        "",
        "/ZAmsg6mnwRRNfSb5ePU6Jnnkk4=",
        query={"list-type": "2", "continuation-token": "CgJhYQ--"},
    ),
    Vector(
        "head with sts token",
        "HEAD",
        "a.txt",
        "1jhV95bNJ3yfqXNDXtuEj+c/AHE=",
        headers={"x-oss-security-token": "TOKEN123"},
    ),
]

V4_VECTORS = [
    Vector(
        "get",
        "GET",
        "dir/file 1.txt",
        "b66daf3b2d8509172ba992dae9e7f19ff0210783473f0b6310bf08c0e8367d34",
    ),
    Vector(
        "put",
        "PUT",
        "a.txt",
        "a449d670df2db4da2b57792dcc575fe80f45dc3a81de1fa0991fa49c41e04233",
        headers={"content-type": "text/plain", "x-oss-meta-mode": "33188"},
    ),
    Vector(
        "list",
        "GET",
        "",
        "d32cad2ddc7fb3c0d1a28c597ee88faf3af13da82c4bec0b5fa3af0748a39756",
        query={"list-type": "2", "prefix": "a/", "delimiter": "/", "max-keys": "100"},
    ),
    Vector(
        "head with sts token",
        "HEAD",
        "a.txt",
        "fc430e008139e7f4f343d44172568a26dbea51f3229fe105a354023c7a286d27",
        headers={"x-oss-security-token": "TOKEN123"},
    ),
]


def v4_headers(signature: str, *, scope: object = SCOPE, more: str = "") -> dict[str, str]:
    return {
        "x-oss-date": V4_DATE,
        "x-oss-content-sha256": "UNSIGNED-PAYLOAD",
        "authorization": (
            f"OSS4-HMAC-SHA256 Credential={KEY.key_id}/{scope}, {more}Signature={signature}"
        ),
    }


def authenticator(now: float, *, token: str | None = None) -> Authenticator:
    made = Authenticator("cn-hangzhou", lambda: now)
    made.add(AccessKey(KEY.key_id, KEY.secret, token))
    return made


def token_of(vector: Vector) -> str | None:
    return vector.headers.get("x-oss-security-token")


@pytest.mark.parametrize("vector", V1_VECTORS, ids=lambda vector: vector.name)
def test_v1_vector(vector: Vector) -> None:
    request = vector.request({"date": V1_DATE})
    assert v1_signature(KEY.secret, v1_string_to_sign(request, V1_DATE)) == vector.signature


@pytest.mark.parametrize("vector", V1_VECTORS, ids=lambda vector: vector.name)
def test_v1_vector_authenticates(vector: Vector) -> None:
    authorization = f"OSS {KEY.key_id}:{vector.signature}"
    request = vector.request({"date": V1_DATE, "authorization": authorization})
    found = authenticator(V1_TIME, token=token_of(vector)).authenticate(request)
    assert found.key_id == KEY.key_id


@pytest.mark.parametrize("vector", V4_VECTORS, ids=lambda vector: vector.name)
def test_v4_vector(vector: Vector) -> None:
    request = vector.request(v4_headers(vector.signature))
    text = v4_string_to_sign(v4_canonical_request(request), V4_DATE, SCOPE)
    assert v4_signature(KEY.secret, SCOPE, text) == vector.signature
    found = authenticator(V4_TIME, token=token_of(vector)).authenticate(request)
    assert found.key_id == KEY.key_id


GET_V1 = {"date": V1_DATE, "authorization": f"OSS {KEY.key_id}:{V1_VECTORS[0].signature}"}

REFUSED_V1 = [
    ("changed method", {}, "PUT", 0.0, "SignatureDoesNotMatch"),
    ("unsigned header added", {"x-oss-meta-a": "1"}, "GET", 0.0, "SignatureDoesNotMatch"),
    ("fifteen minutes late", {}, "GET", 901.0, "RequestTimeTooSkewed"),
    ("fifteen minutes early", {}, "GET", -901.0, "RequestTimeTooSkewed"),
    ("no date", {"date": ""}, "GET", 0.0, "AccessDenied"),
    ("unreadable date", {"date": "yesterday"}, "GET", 0.0, "AccessDenied"),
    ("unknown key", {"authorization": "OSS other:AAAA"}, "GET", 0.0, "InvalidAccessKeyId"),
    ("no colon", {"authorization": "OSS other"}, "GET", 0.0, "InvalidArgument"),
    ("other scheme", {"authorization": "Basic YTpi"}, "GET", 0.0, "InvalidArgument"),
]


@pytest.mark.parametrize(
    ("change", "method", "shift", "code"),
    [row[1:] for row in REFUSED_V1],
    ids=[row[0] for row in REFUSED_V1],
)
def test_v1_refused(change: dict[str, str], method: str, shift: float, code: str) -> None:
    request = OssRequest(method, BUCKET, "dir/file 1.txt", {}, GET_V1 | change)
    with pytest.raises(OssAnswerError) as caught:
        authenticator(V1_TIME + shift).authenticate(request)
    assert caught.value.code == code


def test_v1_prefers_its_own_date_header_and_signs_it_twice() -> None:
    request = OssRequest("GET", BUCKET, "a", {}, {"date": "ignored", "x-oss-date": V1_DATE})
    text = v1_string_to_sign(request, V1_DATE)
    assert text == f"GET\n\n\n{V1_DATE}\nx-oss-date:{V1_DATE}\n/{BUCKET}/a"


V4_SIGNATURE = V4_VECTORS[0].signature

REFUSED_V4 = [
    ("wrong signature", v4_headers("0" * 64), 0.0, "SignatureDoesNotMatch"),
    ("late", v4_headers(V4_SIGNATURE), 901.0, "RequestTimeTooSkewed"),
    (
        "other region",
        v4_headers(V4_SIGNATURE, scope=Scope("20231203", "cn-beijing")),
        0.0,
        "InvalidArgument",
    ),
    (
        "other day in scope",
        v4_headers(V4_SIGNATURE, scope=Scope("20231204", "cn-hangzhou")),
        0.0,
        "InvalidArgument",
    ),
    ("short scope", v4_headers(V4_SIGNATURE, scope="20231203/oss"), 0.0, "InvalidArgument"),
    (
        "empty additional headers",
        v4_headers(V4_SIGNATURE, more="AdditionalHeaders=, "),
        0.0,
        "InvalidArgument",
    ),
    (
        "additional headers end in a semicolon",
        v4_headers(V4_SIGNATURE, more="AdditionalHeaders=host;, "),
        0.0,
        "InvalidArgument",
    ),
    (
        "no date",
        v4_headers(V4_SIGNATURE) | {"x-oss-date": ""},
        0.0,
        "AccessDenied",
    ),
]


@pytest.mark.parametrize(
    ("headers", "shift", "code"),
    [row[1:] for row in REFUSED_V4],
    ids=[row[0] for row in REFUSED_V4],
)
def test_v4_refused(headers: dict[str, str], shift: float, code: str) -> None:
    request = OssRequest("GET", BUCKET, "dir/file 1.txt", {}, headers)
    with pytest.raises(OssAnswerError) as caught:
        authenticator(V4_TIME + shift).authenticate(request)
    assert caught.value.code == code


def test_mismatch_answer_shows_what_was_signed() -> None:
    request = OssRequest("GET", BUCKET, "dir/file 1.txt", {}, v4_headers("0" * 64))
    with pytest.raises(OssAnswerError) as caught:
        authenticator(V4_TIME).authenticate(request)
    assert caught.value.fields["StringToSign"].startswith("OSS4-HMAC-SHA256\n")
    assert caught.value.fields["SignatureProvided"] == "0" * 64
    assert KEY.secret not in str(caught.value.fields)


def test_anonymous_request_is_refused() -> None:
    with pytest.raises(OssAnswerError) as caught:
        authenticator(V1_TIME).authenticate(OssRequest("GET", BUCKET, "a", {}, {}))
    assert caught.value.code == "AccessDenied"


@given(st.binary(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_any_request_line_and_authorization_gives_only_answers(
    path: bytes, query: str, authorization: str
) -> None:
    target = "/" + path.decode("latin-1") + "?" + query
    headers = [("Authorization", authorization), ("Date", V1_DATE)]
    try:
        request = OssRequest.parse("GET", target, "127.0.0.1:1", headers)
        authenticator(V1_TIME).authenticate(request)
    except OssAnswerError:
        return
    pytest.fail("a request without a right signature was accepted")
