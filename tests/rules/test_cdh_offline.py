"""Resources from files: only by name, the last file counts, and nothing half-read."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.compose import open_hub
from cdh.config import CdhConfig, KbcSection
from cdh.errors import ConfigurationRefusedError, OfflineFileError, OfflineResourceError
from cdh.offline import MAX_FILE_BYTES, OfflineResources
from cdh.settings import load
from kbs import ResourceUri, ResourceUriError
from lifecycle.kernel_command_line import KernelCommandLine

URI = ResourceUri.parse("kbs:///default/key/1")


def _file(path: Path, **contents: bytes) -> Path:
    members = {
        f"default/key/{name}": base64.b64encode(value).decode() for name, value in contents.items()
    }
    path.write_text(json.dumps(members))
    return path


async def test_the_last_file_that_has_it_counts(tmp_path: Path) -> None:
    keys = _file(tmp_path / "keys.json", **{"1": b"from keys", "2": b"\x00\xff"})
    extra = _file(tmp_path / "extra.json", **{"1": b"from extra"})
    absent = tmp_path / "absent.json"
    resources = OfflineResources.read([keys, absent, extra])
    assert (await resources.get(URI)).reveal() == b"from extra"
    with_host = ResourceUri.parse("kbs://any-host:1/default/key/2")
    assert (await resources.get(with_host)).reveal() == b"\x00\xff"
    taken = await resources.get(URI)
    taken.wipe()  # every caller has a copy of its own
    assert (await resources.get(URI)).reveal() == b"from extra"
    resources.close()
    assert len(resources) == 0


async def test_what_is_not_there_is_an_error_with_a_hint(tmp_path: Path) -> None:
    resources = OfflineResources.read([_file(tmp_path / "f", **{"1": b"x"})])
    for uri in ("kbs:///default/key/2", "kbs+pkcs11:///default/key/1"):
        with pytest.raises(OfflineResourceError) as caught:
            await resources.get(ResourceUri.parse(uri))
        assert "offline_files" in caught.value.hint
    with pytest.raises(ResourceUriError):
        await resources.get(ResourceUri.parse("kbs:///a/b"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"[]", "not a JSON object", id="array"),
        pytest.param(b'{"a/b/c": 1}', "not base64 text", id="number"),
        pytest.param(b'{"a/b/c": "_-__"}', "not standard base64", id="base64url"),
        pytest.param(b'{"a/b/c": "QUJD\\n"}', "not standard base64", id="newline"),
        pytest.param(b'{"a/b/c": "QQ"}', "not standard base64", id="no padding"),
        pytest.param(b'{"a/b/c": "QQ==", "a/b/c": "QQ=="}', "twice", id="twice"),
        pytest.param(b"\xff", "not UTF-8", id="bytes"),
        pytest.param(b" " * (MAX_FILE_BYTES + 1), "larger than", id="too large"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(OfflineFileError, match=words):
        OfflineResources.read([path])


def test_an_unreadable_file_is_not_an_absent_one(tmp_path: Path) -> None:
    with pytest.raises(OfflineFileError, match="cannot be read: Is a directory"):
        OfflineResources.read([tmp_path])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "offline.json"
    path.write_bytes(body)
    with suppress(OfflineFileError):
        OfflineResources.read([path])


async def test_the_hub_serves_files_only_if_told_by_name(tmp_path: Path) -> None:
    file = _file(tmp_path / "f", **{"1": b"offline"})
    quiet = CdhConfig(kbc=KbcSection(offline_files=(str(file),)))
    async with open_hub(quiet) as running:
        with pytest.raises(Exception, match="no key broker is configured"):
            await running.hub.get_resource(str(URI))
    named = CdhConfig(kbc=KbcSection(name="offline_fs_kbc", offline_files=(str(file),)))
    async with open_hub(named) as running:
        assert (await running.hub.get_resource(str(URI))).reveal() == b"offline"


@pytest.mark.parametrize("url", ["null", "https://kbs"])
def test_the_host_cannot_switch_it_on(url: str) -> None:
    with pytest.raises(ConfigurationRefusedError, match="configuration file only"):
        load(None, {}, KernelCommandLine({"agent.aa_kbc_params": f"offline_fs_kbc::{url}"}))
