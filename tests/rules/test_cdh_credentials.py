"""Credential files: where they may lie, how they appear, and how long the hub tries."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.config import Credential
from cdh.credentials import (
    CREDENTIALS_ROOT,
    CredentialFiles,
    check_credentials,
    write_credential,
)
from cdh.errors import ConfigurationRefusedError, CredentialFileError, KbsNotConfiguredError
from cdh.mounts.mountinfo import read_mountinfo
from kbs import ResourceUri
from kbs.errors import HandshakeHeldError, KbsUnreachableError
from secrecy import Secret

URI = "kbs:///default/key/1"


@pytest.fixture
def root() -> Iterator[str]:
    """A directory in memory, as /run is in a guest."""
    path = tempfile.mkdtemp(dir="/dev/shm")
    yield f"{path}/kbs"
    shutil.rmtree(path)


class Source:
    """Fails with each of ``failures`` in turn, then gives the name of the resource."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked = 0

    async def get(self, uri: ResourceUri) -> Secret:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return Secret(str(uri).encode())


class Naps:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def test_files_are_private_and_whole(root: str) -> None:
    wanted = [Credential(URI, f"{root}/a"), Credential(URI, f"{root}/deep/er/b")]
    files = CredentialFiles(wanted, Source(), root=root)
    await files.run()
    assert (files.status.written, files.status.wanted, files.status.last_error) == (2, 2, "")
    for path in (f"{root}/a", f"{root}/deep/er/b"):
        assert Path(path).read_text() == URI
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert sorted(os.listdir(root)) == ["a", "deep"]


async def test_it_tries_again_and_waits_as_long_as_the_session_is_held(root: str) -> None:
    held = HandshakeHeldError(77.0, 3, "first", "last", decided=False, transient=True)
    naps = Naps()
    source = Source(KbsUnreachableError("away"), held, KbsNotConfiguredError(URI))
    files = CredentialFiles([Credential(URI, f"{root}/a")], source, root=root, sleep=naps)
    assert files.status.written == 0
    await files.run()
    assert source.asked == 4
    assert 1.0 <= naps.seconds[0] <= 3.0
    assert naps.seconds[1] == 77.0
    assert Path(f"{root}/a").read_text() == URI


async def test_one_that_fails_does_not_hold_up_the_others(root: str) -> None:
    naps = Naps()
    files = CredentialFiles(
        [Credential(URI, f"{root}/a"), Credential(URI, f"{root}/b")],
        Source(KbsUnreachableError("away")),
        root=root,
        sleep=naps,
    )
    await files.run()
    assert len(naps.seconds) == 1
    assert files.status.last_error == ""


async def test_an_older_file_is_replaced_in_one_step(root: str) -> None:
    write_credential(f"{root}/a", Secret(b"old"), root)
    with open(f"{root}/a", "rb") as held:
        write_credential(f"{root}/a", Secret(b"new"), root)
        assert held.read() == b"old"
    assert Path(f"{root}/a").read_bytes() == b"new"


@pytest.mark.parametrize("link", ["kbs", "kbs/sub"])
def test_no_symbolic_link_is_followed(root: str, tmp_path: Path, link: str) -> None:
    place = Path(root).parent / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path)
    with pytest.raises(CredentialFileError, match="symbolic links"):
        write_credential(f"{root}/sub/a" if link != "kbs" else f"{root}/a", Secret(b"x"), root)
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(
    root: str, tmp_path: Path
) -> None:
    Path(root).mkdir()
    target = tmp_path / "host"
    target.write_text("untouched")
    Path(root, "a").symlink_to(target)
    write_credential(f"{root}/a", Secret(b"secret"), root)
    assert target.read_text() == "untouched"
    assert not Path(root, "a").is_symlink()


def test_a_directory_in_the_place_of_the_file_is_an_error_and_leaves_nothing(root: str) -> None:
    Path(root, "a").mkdir(parents=True)
    with pytest.raises(CredentialFileError, match="directory"):
        write_credential(f"{root}/a", Secret(b"secret"), root)
    assert os.listdir(root) == ["a"]


def test_nothing_is_written_to_a_disk(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which file system a test's directory is on differs between machines; /dev/shm is tmpfs.
    monkeypatch.setattr("cdh.credentials.IN_MEMORY", frozenset({"ramfs"}))
    with pytest.raises(CredentialFileError, match="on a file system of type tmpfs"):
        write_credential(f"{root}/a", Secret(b"x"), root)
    assert not os.listdir(root)


def test_nothing_is_written_to_a_disk_below_the_root(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = dataclasses.replace(read_mountinfo()[0], mount_point=f"{root}/disk", fs_type="ext4")
    table = [*read_mountinfo(), disk]
    monkeypatch.setattr("cdh.credentials.read_mountinfo", lambda: table)
    with pytest.raises(CredentialFileError, match="on a file system of type ext4"):
        write_credential(f"{root}/disk/a/b", Secret(b"x"), root)
    write_credential(f"{root}/disks", Secret(b"x"), root)
    assert Path(root, "disks").read_bytes() == b"x"
    assert not list(Path(root, "disk").rglob("b"))


@pytest.mark.parametrize(
    ("uri", "path", "key"),
    [
        (URI, "/etc/passwd", "credentials[0].path"),
        (URI, CREDENTIALS_ROOT, "credentials[0].path"),
        (URI, CREDENTIALS_ROOT + "-other/a", "credentials[0].path"),
        (URI, CREDENTIALS_ROOT + "/../a", "credentials[0].path"),
        (URI, CREDENTIALS_ROOT + "/./a", "credentials[0].path"),
        (URI, CREDENTIALS_ROOT + "//a", "credentials[0].path"),
        (URI, CREDENTIALS_ROOT + "/a/", "credentials[0].path"),
        (URI, CREDENTIALS_ROOT + "/a\n", "credentials[0].path"),
        ("https://x/a/b/c", CREDENTIALS_ROOT + "/a", "credentials[0].resource_uri"),
        ("kbs:///only/two", CREDENTIALS_ROOT + "/a", "credentials[0].resource_uri"),
    ],
)
def test_refused_by_name(uri: str, path: str, key: str) -> None:
    with pytest.raises(ConfigurationRefusedError) as caught:
        check_credentials([Credential(uri, path)])
    assert caught.value.key == key


def test_one_path_for_two_resources_is_refused() -> None:
    with pytest.raises(ConfigurationRefusedError, match="twice"):
        check_credentials([Credential(URI, f"{CREDENTIALS_ROOT}/a")] * 2)


@given(st.text(max_size=80))
def test_whatever_passes_stays_below_the_directory(text: str) -> None:
    path = f"{CREDENTIALS_ROOT}/{text}"
    try:
        check_credentials([Credential(URI, path)])
    except ConfigurationRefusedError:
        return
    assert os.path.normpath(path) == path
    assert path.startswith(CREDENTIALS_ROOT + "/")
