"""Key provider requests, annotation packets and unwrapping, by example and by shared vectors."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from keywrap import (
    KekError,
    KeywrapError,
    PacketFormatError,
    PacketRefusedError,
    RequestFormatError,
    WrappedKeyError,
    parse_older_unwrap_request,
    parse_packet,
    parse_unwrap_request,
    unwrap,
    unwrap_reply,
)
from secrecy import Secret
from tests.wire.keywrap_samples import (
    KEK,
    OPTIONS,
    b64,
    ctr_packet,
    gcm_packet,
    older_request_for,
    reply_options,
    request_for,
    unwrapped,
)


@pytest.mark.parametrize(
    "packet",
    [
        gcm_packet(),
        ctr_packet(),
        gcm_packet(version="0.1.0", provider="kbs", provider_settings={}, annotations={}),
        gcm_packet(provider_settings={"a": [1, {"b": None}]}, annotations={"c": {}}),
        gcm_packet(unknown={"members": "pass"}),
    ],
    ids=["v1 gcm", "v1 ctr", "v2", "v2 with settings", "unknown members"],
)
def test_a_packet_opens(packet: dict[str, Any]) -> None:
    assert unwrapped(packet) == OPTIONS


def test_what_is_authenticated_need_not_be_json() -> None:
    assert unwrapped(gcm_packet(b"\xff any bytes")) == b"\xff any bytes"
    with pytest.raises(WrappedKeyError):
        unwrapped(ctr_packet(b"\xff any bytes"))


@pytest.mark.parametrize(
    ("packet", "error", "says"),
    [
        (gcm_packet(provider="aliyun"), PacketRefusedError, "provider: 'aliyun' is not served"),
        (gcm_packet(provider="KBS"), PacketRefusedError, "provider: 'KBS'"),
        (gcm_packet(provider=""), PacketRefusedError, "provider: ''"),
        (gcm_packet(version="0.2.0"), PacketRefusedError, "version: '0.2.0'"),
        (gcm_packet(wrap_type="a256gcm"), PacketRefusedError, "wrap_type: 'a256gcm'"),
        (gcm_packet(wrap_type=None), PacketFormatError, "wrap_type: missing"),
        (gcm_packet() | {"iv": None}, PacketFormatError, "iv: missing"),
        (gcm_packet() | {"iv": b64(b"x" * 16)}, PacketFormatError, "iv: A256GCM needs 12"),
        (ctr_packet() | {"iv": b64(b"x" * 12)}, PacketFormatError, "iv: A256CTR needs 16"),
        (gcm_packet() | {"iv": "AAAA_AAA"}, PacketFormatError, "iv: not standard base64"),
        (gcm_packet() | {"iv": b64(b"j" * 12)}, WrappedKeyError, "does not open"),
        (gcm_packet(wrapped_data=""), PacketFormatError, "wrapped_data"),
        (gcm_packet(wrapped_data="AAA"), PacketFormatError, "wrapped_data"),
        (gcm_packet(wrapped_data="AAB="), PacketFormatError, "wrapped_data"),
        (gcm_packet(wrapped_data="AAAA\n"), PacketFormatError, "wrapped_data"),
        (gcm_packet(wrapped_data=b64(b"x" * 15)), WrappedKeyError, "does not open"),
        (gcm_packet(kek=b"k" * 32), WrappedKeyError, "does not open"),
        (ctr_packet(kek=b"k" * 32), WrappedKeyError, "does not open"),
        (gcm_packet(kid=7), PacketFormatError, "JSON"),
        (gcm_packet(annotations=None), PacketFormatError, "JSON"),
        ({}, PacketFormatError, "JSON"),
    ],
)
def test_a_packet_is_refused(packet: dict[str, Any], error: type[KeywrapError], says: str) -> None:
    with pytest.raises(error) as caught:
        unwrapped(packet)
    assert says in str(caught.value)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 44])
def test_a_key_of_another_length_is_none(size: int) -> None:
    with pytest.raises(KekError) as caught:
        unwrapped(gcm_packet(), b"k" * size)
    assert f"got {size}" in str(caught.value) and "k" * 16 not in str(caught.value)


@pytest.mark.parametrize(
    ("kid", "uri"),
    [
        ("kbs:///a/b/c", "kbs:///a/b/c"),
        ("kbs://host:8080/a/b/c", "kbs://host:8080/a/b/c"),
        ("kbs+pkcs11:///a/b/c", "kbs+pkcs11:///a/b/c"),
        ("/a/b/c", "kbs:///a/b/c"),
        ("a/b/c", "a/b/c"),
    ],
)
def test_the_kid_is_a_resource_uri(kid: str, uri: str) -> None:
    assert parse_packet(json.dumps(gcm_packet(kid=kid)).encode()).kek_uri == uri


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"op": "anything"},
        {"keywrapparams": {}},
        {"keyunwrapparams": {"annotation": b64(b"{}")}},
        {"keyunwrapparams": {"dc": None, "annotation": b64(b"{}")}},
        {"keyunwrapparams": {"dc": {"Parameters": None}, "annotation": b64(b"{}")}},
        {"more": [1]},
    ],
    ids=str,
)
def test_a_request_is_read(changed: dict[str, Any]) -> None:
    assert parse_unwrap_request(request_for({}, **changed)).packet == b"{}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        request_for({}, keywrapparams=None),
        request_for({}, keyunwrapparams={}),
        request_for({}, keyunwrapparams={"annotation": None}),
        request_for({}, keyunwrapparams={"annotation": ""}),
        request_for({}, keyunwrapparams={"annotation": "e30"}),
        request_for({}, keyunwrapparams={"annotation": "e30=\n"}),
        request_for({}, op=1),
        request_for({}) + b"x",
        request_for({}, op="x" * 300_000),
        request_for({}, more="[" * 3)[:-1],
        b'{"op":"x","keywrapparams":{},"keyunwrapparams":{"annotation":"e30="},"a":'
        + b"[" * 50_000
        + b"]" * 50_000
        + b"}",
    ],
    ids=range(16),
)
def test_a_request_is_refused(data: bytes) -> None:
    with pytest.raises(RequestFormatError):
        parse_unwrap_request(data)


def test_the_reply_is_a_list_of_integers() -> None:
    reply = unwrap_reply(Secret(bytes([1, 2, 255])))
    assert reply.reveal() == b'{"keyunwrapresults":{"optsdata":[1,2,255]}}'
    assert reply_options(unwrap_reply(Secret(OPTIONS)).reveal()) == OPTIONS


def test_an_older_request_names_its_key_broker() -> None:
    request = parse_older_unwrap_request(older_request_for({"kid": "x"}, "cc_kbc::http://[::1]:80"))
    assert (request.kbc_name, request.kbs_uri) == ("cc_kbc", "http://[::1]:80")
    assert json.loads(request.packet) == {"kid": "x"}


EC: dict[str, Any] = {"Parameters": {}, "DecryptConfig": {"Parameters": {}}}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"op": "keywrap"}, "op"),
        ({"op": ""}, "op"),
        ({"keywrapparams": {"optsdata": "e30="}}, "optsdata"),
        ({"keywrapparams": {"ec": EC | {"Parameters": {"x": ["eA=="]}}}}, "keywrapparams.ec"),
        ({"keyunwrapparams": {"annotation": "e30="}}, "keyunwrapparams.dc"),
        ({"keyunwrapparams": {"dc": {"Parameters": {}}, "annotation": "e30="}}, "dc"),
        (
            {"keyunwrapparams": {"dc": {"Parameters": {"other": ["eA=="]}}, "annotation": "e30="}},
            "dc",
        ),
        (
            {
                "keyunwrapparams": {
                    "dc": {"Parameters": {"attestation-agent": []}},
                    "annotation": "e30=",
                }
            },
            "missing",
        ),
        (
            {"keyunwrapparams": {"dc": {"Parameters": {"attestation-agent": ["eA=="]}}}},
            "annotation",
        ),
    ],
)
def test_an_older_request_is_refused(changed: dict[str, Any], says: str) -> None:
    request = json.loads(older_request_for({})) | changed
    with pytest.raises(RequestFormatError) as caught:
        parse_older_unwrap_request(json.dumps(request).encode())
    assert says in str(caught.value)


@pytest.mark.parametrize("params", ["", "cc_kbc", "::x", "cc_kbc::", "cc_kbc:http://x"])
def test_older_parameters_are_refused(params: str) -> None:
    with pytest.raises(RequestFormatError):
        parse_older_unwrap_request(older_request_for({}, params))


def test_older_parameters_may_be_empty_maps() -> None:
    request = older_request_for({}, keywrapparams={"ec": EC, "optsdata": ""})
    assert parse_older_unwrap_request(request).kbc_name == "cc_kbc"


# --- shared vectors -----------------------------------------------------------------------------


def test_shared_packets(shared_vectors: Path) -> None:
    text = (shared_vectors / "images" / "annotation" / "packets.json").read_text()
    opened = refused = 0
    for case in json.loads(text)["cases"]:
        data = json.dumps(case["packet"]).encode()
        expect = case.get("tolerant", case["expect"])
        if expect == "parse-only":
            parse_packet(data).kbs_wrapping()
            continue
        kek = Secret(base64.b64decode(case["kek_b64"]))
        if expect.startswith("ok"):
            options = unwrap(parse_packet(data), kek).reveal().decode()
            assert options == case["plaintext"], case["name"]
            opened += 1
            continue
        with pytest.raises(KeywrapError):
            unwrap(parse_packet(data), kek)
        refused += 1
    assert opened >= 9 and refused >= 14


def test_published_annotations_hold_their_packets(shared_vectors: Path) -> None:
    folder = shared_vectors / "images" / "annotation"
    cases = json.loads((folder / "packets.json").read_text())["cases"]
    published = [case for case in cases if "annotation_value" in case]
    assert published
    for case in published:
        data = base64.b64decode(case["annotation_value"])
        assert parse_packet(data) == parse_packet(json.dumps(case["packet"]).encode())
    for path in sorted((folder / "upstream").iterdir()):
        assert parse_packet(path.read_bytes()).kbs_wrapping().wrap_type == "A256GCM"


def test_shared_envelopes(shared_vectors: Path) -> None:
    vectors = json.loads((shared_vectors / "images" / "keyprovider" / "envelopes.json").read_text())
    read = refused = 0
    for case in vectors["cases"]:
        data = json.dumps(case["json"]).encode()
        if not case["name"].startswith(("unwrap-request", "go-unwrap-request", "rust-unwrap-req")):
            continue
        if case["expect"] == "error":
            with pytest.raises(RequestFormatError):
                parse_unwrap_request(data)
            refused += 1
            continue
        packet = parse_packet(parse_unwrap_request(data).packet)
        reply = unwrap_reply(unwrap(packet, Secret(KEK))).reveal()
        assert reply_options(reply).decode() == vectors["private_options"]
        expected = next(one["json"] for one in vectors["cases"] if one["name"] == "unwrap-reply")
        assert json.loads(reply) == expected
        read += 1
    assert read >= 4 and refused >= 2
