"""Envelopes: the bytes the references write, and nothing but our errors on any other bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import attestation_agent_pb2 as aa
from protos import services
from ttrpc.errors import MessageDecodeError
from ttrpc.frames import FrameType, encode_frame
from ttrpc.messages import (
    Request,
    decode_request,
    decode_response,
    encode_failure,
    encode_request,
    encode_success,
    metadata_of,
    parse_message,
    timeout_of,
)
from ttrpc.status import MAX_MESSAGE, Code, StatusError

# Computed by hand from the frame layout and the field numbers of the references.
GET_TEE_TYPE_REQUEST = (
    bytes.fromhex("00000037 00000001 01 00")
    + bytes.fromhex("0a29")
    + b"attestation_agent.AttestationAgentService"
    + bytes.fromhex("120a")
    + b"GetTeeType"
)
GET_TEE_TYPE_REPLY = bytes.fromhex("00000009 00000001 02 00 0a00 1205 0a03 746478")


def test_worked_request() -> None:
    data = encode_request(services.ATTESTATION_AGENT, "GetTeeType", b"")
    assert encode_frame(1, FrameType.REQUEST, data) == GET_TEE_TYPE_REQUEST


def test_worked_reply() -> None:
    data = encode_success(aa.GetTeeTypeResponse(tee="tdx").SerializeToString())
    assert encode_frame(1, FrameType.RESPONSE, data) == GET_TEE_TYPE_REPLY


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes.fromhex("0a00 1205 0a03 746478"), id="empty-status-as-rust"),
        pytest.param(bytes.fromhex("1205 0a03 746478"), id="no-status-as-go"),
        pytest.param(bytes.fromhex("0a020800 1205 0a03 746478"), id="explicit-ok"),
        pytest.param(bytes.fromhex("1205 0a03 746478 0a00"), id="status-last"),
        pytest.param(bytes.fromhex("0a00 1205 0a03 746478 9a060178"), id="unknown-field"),
    ],
)
def test_every_form_of_success_is_success(data: bytes) -> None:
    assert parse_message(aa.GetTeeTypeResponse, decode_response(data)).tee == "tdx"


@given(st.sampled_from([code for code in Code if code is not Code.OK]), st.text(max_size=100))
def test_failure_round_trip(code: Code, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        decode_response(encode_failure(code, text))
    assert (caught.value.code, caught.value.message) == (code, text)


@pytest.mark.parametrize("number", [17, 255, -1, 2**31 - 1])
def test_an_unknown_code_is_unknown(number: int) -> None:
    status = b"\x08" + _varint(number & (2**64 - 1))
    with pytest.raises(StatusError) as caught:
        decode_response(b"\x0a" + bytes([len(status)]) + status)
    assert caught.value.code is Code.UNKNOWN


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("x" * 100_000, "x" * MAX_MESSAGE, id="long"),
        pytest.param("file \udcff", "file ?", id="not-utf-8"),
    ],
)
def test_any_text_can_be_sent(text: str, kept: str) -> None:
    with pytest.raises(StatusError) as caught:
        decode_response(encode_failure(Code.INTERNAL, text))
    assert caught.value.message == kept


def test_a_status_error_is_never_ok() -> None:
    with pytest.raises(ValueError, match="other than OK"):
        StatusError(Code.OK, "")


names = st.text(max_size=40)


@given(
    names,
    names,
    st.binary(max_size=200),
    st.dictionaries(st.text("abcdef-", max_size=8), st.lists(names, min_size=1, max_size=3)),
)
def test_request_round_trip(
    service: str, method: str, payload: bytes, metadata: dict[str, list[str]]
) -> None:
    request = decode_request(encode_request(service, method, payload, None, metadata))
    assert (request.service, request.method, request.payload) == (service, method, payload)
    assert metadata_of(request) == {key: tuple(values) for key, values in metadata.items()}
    assert timeout_of(request) is None


def test_metadata_keys_go_out_in_lower_case_and_repeat() -> None:
    data = encode_request("s", "m", b"", None, {"Key": ["a", "b"]})
    entry = bytes.fromhex("0a036b6579 1201")
    assert data.endswith(
        b"".join(b"\x2a" + bytes([len(entry) + 1]) + entry + value for value in (b"a", b"b"))
    )


def test_received_metadata_keys_are_kept_as_they_are() -> None:
    request = Request()
    request.metadata.add(key="Key", value="1")
    request.metadata.add(key="key", value="2")
    request.metadata.add(key="Key", value="3")
    assert metadata_of(request) == {"Key": ("1", "3"), "key": ("2",)}


@pytest.mark.parametrize(
    ("seconds", "nano"),
    [
        pytest.param(None, 0, id="none"),
        pytest.param(1.5, 1_500_000_000, id="plain"),
        pytest.param(0.0, 1, id="zero-must-not-become-unlimited"),
        pytest.param(1e300, 9 * 10**18, id="huge"),
    ],
)
def test_timeouts_on_the_wire(seconds: float | None, nano: int) -> None:
    assert decode_request(encode_request("s", "m", b"", seconds)).timeout_nano == nano


@pytest.mark.parametrize(
    ("nano", "seconds"),
    [
        pytest.param(0, None, id="zero-is-no-limit"),
        pytest.param(-1, None, id="negative-is-no-limit"),
        pytest.param(2_500_000_000, 2.5, id="plain"),
    ],
)
def test_timeouts_received(nano: int, seconds: float | None) -> None:
    assert timeout_of(Request(timeout_nano=nano)) == seconds


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_only_our_errors(data: bytes) -> None:
    with contextlib.suppress(MessageDecodeError):
        metadata_of(decode_request(data))
    with contextlib.suppress(MessageDecodeError, StatusError):
        decode_response(data)


def test_a_decode_error_names_the_message_and_holds_none_of_it() -> None:
    with pytest.raises(MessageDecodeError) as caught:
        decode_request(b"\x0a\xffsecret")
    assert str(caught.value) == "8 bytes received as ttrpc.Request are not such a message"
    assert (caught.value.what, caught.value.length) == ("ttrpc.Request", 8)


def test_register_zero_differs_from_no_register() -> None:
    empty = aa.ExtendRuntimeMeasurementRequest()
    zero = aa.ExtendRuntimeMeasurementRequest(RegisterIndex=0)
    assert (empty.SerializeToString(), zero.SerializeToString()) == (b"", b"\x20\x00")


def test_an_ok_result_is_written_as_nothing() -> None:
    ok = aa.ExtendRuntimeMeasurementResponse(Result=aa.OK)
    unsupported = aa.ExtendRuntimeMeasurementResponse(Result=aa.NOT_SUPPORTED)
    assert (ok.SerializeToString(), unsupported.SerializeToString()) == (b"", b"\x08\x01")
