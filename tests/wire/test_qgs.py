"""QGS messages: the recorded form, every wrong size, arbitrary bytes; and the configured port."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx.errors import QgsAddressError, QgsError, QgsProtocolError
from tdx.qgs import (
    MAX_MESSAGE_BYTES,
    QgsAddress,
    decode_frame,
    decode_quote_response,
    encode_frame,
    encode_quote_request,
    frame_length,
    port_in_attest_conf,
)

REPORT = bytes(range(256)) * 4


def response(quote: bytes, *, selected: bytes = b"") -> bytes:
    body = struct.pack("<II", len(selected), len(quote)) + selected + quote
    return struct.pack("<HHIII", 1, 0, 1, 16 + len(body), 0) + body


def test_the_request_in_full() -> None:
    frame = encode_frame(encode_quote_request(REPORT))
    head = "00000418010000000000000018040000000000000004000000000000"
    assert frame == bytes.fromhex(head) + REPORT
    with pytest.raises(ValueError, match="1023 bytes"):
        encode_quote_request(REPORT[:-1])


@given(st.binary(min_size=1, max_size=9000), st.sampled_from([b"", bytes(16)]))
def test_a_quote_comes_out_as_it_went_in(quote: bytes, selected: bytes) -> None:
    message = response(quote, selected=selected)
    assert decode_quote_response(decode_frame(encode_frame(message))) == quote
    for size in {0, 15, 16, 23, 24, len(message) - 1}:
        with pytest.raises(QgsProtocolError):
            decode_quote_response(message[:size])
    with pytest.raises(QgsProtocolError):
        decode_quote_response(message + b"\0")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    for read in (decode_quote_response, decode_frame, lambda d: decode_quote_response(b"\1" + d)):
        try:
            read(data)
        except QgsError:
            continue


@pytest.mark.parametrize("length", [0, 15, MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_frames_out_of_bounds(length: int) -> None:
    with pytest.raises(QgsProtocolError, match="frame length"):
        frame_length(length.to_bytes(4, "big"))
    assert frame_length(MAX_MESSAGE_BYTES.to_bytes(4, "big")) == MAX_MESSAGE_BYTES


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("", None),
        ("port = 4050\n", 4050),
        ("port=4050", 4050),
        (" \tport  =  4050 \n", 4050),
        ("# port = 1\nport = 4050\n", 4050),
        ("#port = 4050\n", None),
        ("port = 4050 # QGS\nport = 2", 2),
        ("port = 12345678901\n", None),
        ("port = -1\n", None),
        ("ports = 4050\n", None),
        ("port 4050\n", None),
        ("port = 0\nport = 4050\n", None),
        ("other = 1\nport = 1\nport = 2\n", 1),
        ("port = ٤\n", None),
    ],
)
def test_the_port_of_attest_conf(text: str, port: int | None) -> None:
    assert port_in_attest_conf(text) == port


def test_a_number_that_is_no_port() -> None:
    with pytest.raises(QgsAddressError, match="4294967296"):
        port_in_attest_conf("port = 4294967296\n")


@pytest.mark.parametrize(
    ("text", "target"),
    [("vsock:2:4050", (2, 4050)), ("unix:/run/qgs.sock", "/run/qgs.sock")],
)
def test_addresses(text: str, target: tuple[int, int] | str) -> None:
    assert QgsAddress.parse(text) == QgsAddress(target)
    assert str(QgsAddress(target)) == text


@pytest.mark.parametrize(
    "text",
    ["", "vsock", "vsock:2", "vsock:2:", "vsock:-1:1", "vsock:2:4294967296", "vsock:2:4050:1",
     "unix:relative", "unix:/" + "x" * 107, "tcp:127.0.0.1:1", "vsock:٢:1"],
)  # fmt: skip
def test_texts_that_are_no_address(text: str) -> None:
    with pytest.raises(QgsAddressError, match="vsock:CID:PORT"):
        QgsAddress.parse(text)
