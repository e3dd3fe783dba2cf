"""Sockets appear when they can answer; settings fail with a name and a hint."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import pytest

from lifecycle import (
    AddressInUseError,
    Readiness,
    SettingsError,
    SocketError,
    UnixAddress,
    listen_unix,
)
from lifecycle.file_source import load_file
from lifecycle.sockets import passed_sockets
from lifecycle.sources import Layers


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""


async def test_a_live_socket_is_never_taken_over(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "run" / "a.sock"))
    with await listen_unix(address), pytest.raises(AddressInUseError):
        await listen_unix(address)
    assert not Path(address.path).exists()


async def test_a_stale_socket_is_replaced_with_narrow_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with await listen_unix(UnixAddress(str(path))):
        assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []


async def test_a_file_in_the_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("mine")
    with pytest.raises(SocketError, match="not a socket"):
        await listen_unix(UnixAddress(str(path)))
    assert path.read_text() == "mine"


async def test_closing_leaves_the_file_of_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    first = await listen_unix(UnixAddress(str(path)))
    os.unlink(path)
    second = await listen_unix(UnixAddress(str(path)))
    first.close()
    assert path.exists()
    second.close()


@pytest.mark.parametrize("text", ["", "/a", "tcp://x", "unix://relative", "unix:///" + "a" * 120])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(SocketError):
        UnixAddress.parse(text)


def load(path: Path) -> Example:
    layers = Layers()
    layers.add_tree(*load_file(path), {})
    return layers.decode(Example).value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("nmae = 'x'", "nmae", id="unknown-key"),
        pytest.param("name = 3", "name", id="wrong-type"),
        pytest.param("name = secret-value", "TOML", id="not-toml"),
    ],
)
def test_bad_settings_name_the_place_not_the_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load(path)
    assert "secret-value" not in str(caught.value) and str(path) in str(caught.value)


def test_unreadable_settings_are_an_error_not_a_default(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "absent.toml")


def test_passed_sockets_go_by_name() -> None:
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "cdh:aa"}
    assert passed_sockets(environ, 7) == {"cdh": 3, "aa": 4}
    assert passed_sockets(environ, 8) == {}
    with pytest.raises(SocketError):
        passed_sockets(environ | {"LISTEN_FDNAMES": "cdh"}, 7)


def test_readiness_reaches_the_service_manager(tmp_path: Path) -> None:
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        Readiness({"NOTIFY_SOCKET": str(path)}).ready()
        assert manager.recv(64) == b"READY=1"


def test_a_service_manager_that_went_away_does_not_end_the_service(tmp_path: Path) -> None:
    Readiness({"NOTIFY_SOCKET": str(tmp_path / "gone.sock")}).stopping()
