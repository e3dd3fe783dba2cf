"""The grammar of addresses: what opens which door, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import SocketError, UnixAddress
from serving.doors import GrpcDoor, LoopbackAddress, UnixDoor, parse_door


@pytest.mark.parametrize(
    ("text", "door"),
    [
        pytest.param("unix:///run/a.sock", UnixDoor(UnixAddress("/run/a.sock")), id="ttrpc"),
        pytest.param("grpc+unix:///a", GrpcDoor(UnixAddress("/a")), id="grpc-unix"),
        pytest.param("127.0.0.1:50002", GrpcDoor(LoopbackAddress("127.0.0.1", 50002)), id="grpc"),
        pytest.param("127.3.2.1:1", GrpcDoor(LoopbackAddress("127.3.2.1", 1)), id="other-loopback"),
        pytest.param("[::1]:65535", GrpcDoor(LoopbackAddress("::1", 65535)), id="ipv6"),
    ],
)
def test_an_address_opens_its_door_and_is_written_as_it_was_read(
    text: str, door: UnixDoor | GrpcDoor
) -> None:
    assert parse_door(text) == door
    assert str(door) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "not an address", id="empty"),
        pytest.param("unix://relative", "not a unix socket address", id="relative"),
        pytest.param("unix:/one/slash", "not a unix socket address", id="one-slash"),
        pytest.param("grpc+unix://relative", "not a unix socket address", id="grpc-relative"),
        pytest.param("grpc+127.0.0.1:1", "not a unix socket address", id="grpc-tcp"),
        pytest.param("localhost:50002", "not an address", id="name"),
        pytest.param("0.0.0.0:50002", "not a loopback address", id="any"),
        pytest.param("[::]:50002", "not a loopback address", id="any-ipv6"),
        pytest.param("10.0.0.1:50002", "not a loopback address", id="outside"),
        pytest.param("127.0.0.999:1", "not an IP address", id="no-ip"),
        pytest.param("127.0.0.1", "not an address", id="no-port"),
        pytest.param("127.0.0.1:0", "the port is not", id="port-0"),
        pytest.param("127.0.0.1:65536", "the port is not", id="port-large"),
        pytest.param("127.0.0.1:1 ", "not an address", id="space"),
        pytest.param("::1:1", "not an address", id="no-brackets"),
        pytest.param("http://127.0.0.1:1", "not an address", id="url"),
    ],
)
def test_anything_else_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SocketError, match=problem):
        parse_door(text)


@given(st.text(max_size=300))
def test_no_text_raises_anything_but_a_socket_error(text: str) -> None:
    try:
        door = parse_door(text)
    except SocketError as error:
        refusal = str(error)
    else:
        assert parse_door(str(door)) == door
        return
    assert len(refusal) < 600
