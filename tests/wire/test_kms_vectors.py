"""Signatures and credential forms of Alibaba Cloud KMS, compared with recorded values."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms import KmsCredentialError, KmsRequestError
from kms.aliyun import gateway_pb2 as pb
from kms.aliyun.credentials import (
    ClientKey,
    parse_client_key,
    parse_metadata,
    parse_password,
    parse_ram_role,
    parse_token_file,
)
from kms.aliyun.gateway_signing import signed_headers, string_to_sign
from kms.aliyun.openapi_signing import (
    canonical_query,
    signature,
    signed_query,
)
from kms.aliyun.openapi_signing import (
    string_to_sign as rpc_string_to_sign,
)
from kms.aliyun.provider import parse_settings
from secrecy import Secret


def folder(shared_vectors: Path) -> Path:
    return shared_vectors / "kbs" / "kms" / "aliyun"


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def client_key(shared_vectors: Path) -> ClientKey:
    vector = load(folder(shared_vectors) / "client-key-pkcs12.json")
    text = json.dumps({"KeyId": "KAAP.f4c8****", "PrivateKeyData": vector["PrivateKeyData"]})
    return parse_client_key(Secret(text), Secret(vector["password"]), "client-key")


def test_requests_to_an_instance_are_signed_as_recorded(
    shared_vectors: Path, client_key: ClientKey
) -> None:
    cases = load(folder(shared_vectors) / "client-key-requests.json")["cases"]
    assert cases
    for case in cases:
        body = bytes.fromhex(case["body_hex"])
        made = signed_headers(client_key, case["api"], body, case["date"])
        assert made["Content-Sha256"] == case["content_sha256"]
        assert made["Authorization"] == case["authorization"]
        signed = string_to_sign(case["content_sha256"], case["date"], case["kms_headers"])
        assert signed.decode() == case["string_to_sign"]


def test_the_bodies_are_the_messages(shared_vectors: Path) -> None:
    cases = {
        c["api"]: c for c in load(folder(shared_vectors) / "client-key-requests.json")["cases"]
    }
    decrypt = pb.DecryptRequest.FromString(bytes.fromhex(cases["Decrypt"]["body_hex"]))
    assert (decrypt.KeyId, decrypt.Algorithm) == ("key-example", "AES_GCM")
    read = pb.GetSecretValueRequest(SecretName="name", FetchExtendedConfig=True)
    assert read.SerializeToString().hex() == cases["GetSecretValue"]["body_hex"]


def test_rpc_calls_are_signed_as_recorded(shared_vectors: Path) -> None:
    vector = load(folder(shared_vectors) / "rpc-signature.json")
    parameters = vector["parameters"]
    assert canonical_query(parameters) == vector["canonical_query"]
    assert rpc_string_to_sign(parameters) == vector["string_to_sign"]
    assert signature(parameters, Secret(vector["access_key_secret"])) == vector["signature"]


def test_recorded_credential_files_parse(shared_vectors: Path) -> None:
    names = {path.name.partition("_")[0]: path for path in folder(shared_vectors).iterdir()}
    password = parse_password(Secret(names["password"].read_bytes()))
    assert len(password) > 0
    role = parse_ram_role(Secret(names["ecsRamRole.json"].read_bytes()), "role")
    assert role.region_id


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"plain", b"plain"),
        (b"plain \r\n\t", b"plain"),
        (b'{"ClientKeyPassword": "inside"}', b"inside"),
        (b'{"other": "x"}', b'{"other": "x"}'),
    ],
)
def test_both_forms_of_a_password(content: bytes, password: bytes) -> None:
    assert parse_password(Secret(content)).reveal() == password


def test_a_token_file() -> None:
    key = parse_token_file(Secret("id:secret:token\n"), "path")
    assert (key.key_id, key.secret.reveal(), key.token.reveal()) == ("id", b"secret", b"token")


@given(st.binary(max_size=200))
def test_arbitrary_files_are_refused_or_read(content: bytes) -> None:
    for parse in (parse_token_file, parse_ram_role):
        with contextlib.suppress(KmsCredentialError):
            parse(Secret(content), "the-file")
    parse_metadata(content)
    with pytest.raises(KmsCredentialError):
        parse_client_key(Secret(content), Secret(b"p"), "the-file")


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=40), max_size=5))
def test_arbitrary_settings_are_refused_or_read(members: dict[str, bytes]) -> None:
    with contextlib.suppress(KmsRequestError):
        parse_settings(members)


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), min_size=1))
def test_a_signed_query_decodes_to_what_was_signed(parameters: dict[str, str]) -> None:
    from urllib.parse import parse_qsl

    query = signed_query(parameters, Secret("key"))
    decoded = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    made = decoded.pop("Signature")
    if "Signature" not in parameters:
        assert decoded == parameters
        assert made == signature(parameters, Secret("key"))
