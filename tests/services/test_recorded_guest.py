"""Agent and hub in one process with receipts: nothing is given without one where that is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.errors import HandshakeUnrecordedError
from cdh.errors import UnrecordedError
from cguestd.compose import Parts, open_services
from cguestd.config import CguestdConfig, ReceiptsConfig
from cguestd.metrics import receipt_families
from cguestd.metrics_text import render
from kbs import PolicyDeniedError, ResourceUriError
from lifecycle import SettingsError
from mocktee.kbs import KbsOptions, MockKbs
from receipts import Access, Gap, ReceiptsDamagedError, Subject, examine_chain, read_directory
from tests.rules.exposition import parse
from tests.services import small_filesystem
from tests.services.test_post_quantum_session import PKI, SECRET, URI, config_at

FILLER = b"x" * 65536


small = small_filesystem.small


def _fill(place: Path) -> Path:
    """Take all the room there is: the last write is a short one."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        while file.write(FILLER) == len(FILLER):
            pass
    return filler


@asynccontextmanager
async def _guest(tmp_path: Path, receipts: ReceiptsConfig) -> AsyncIterator[tuple[Parts, MockKbs]]:
    async with MockKbs.start(tmp_path / "kbs", PKI, KbsOptions(tls=False)) as kbs:
        kbs.put_resource("default/key/1", SECRET)
        kbs.set_resource_policy("package policy\ndefault allow = true\n")
        config: CguestdConfig = msgspec.structs.replace(
            config_at(tmp_path, kbs.url), receipts=receipts
        )
        config.check()
        async with open_services(config, ["agent", "hub"]) as parts:
            yield parts, kbs


async def _until_refused(parts: Parts) -> None:
    assert parts.hub is not None
    for _ in range(100):
        await parts.hub.hub.get_resource(URI)


def _accesses(directory: Path) -> list[Access]:
    bodies = [receipt.body for receipt in examine_chain(read_directory(directory)).receipts]
    return [body for body in bodies if isinstance(body, Access)]


async def test_a_required_receipt_is_there_before_the_content(tmp_path: Path) -> None:
    folder = tmp_path / "receipts"
    async with _guest(tmp_path, ReceiptsConfig(True, str(folder), required=True)) as (parts, _):
        assert parts.hub is not None
        assert (await parts.hub.hub.get_resource(URI)).reveal() == SECRET
        found = _accesses(folder)
        assert [(a.act, a.verdict) for a in found] == [
            ("handshake", "allowed"),
            ("release", "allowed"),
        ]
    text = b"".join(read_directory(folder))
    assert SECRET not in text


async def test_what_is_sent_in_place_of_a_uri_is_not_written_down(tmp_path: Path) -> None:
    folder = tmp_path / "receipts"
    async with _guest(tmp_path, ReceiptsConfig(True, str(folder), required=True)) as (parts, _):
        assert parts.hub is not None
        with pytest.raises(ResourceUriError, match="hunter2"):
            await parts.hub.hub.get_resource("hunter2")
    (found,) = (access for access in _accesses(folder) if access.act == "release")
    assert (found.verdict, found.subject) == ("failed", Subject())
    assert "no scheme" in found.reason
    assert b"hunter2" not in b"".join(read_directory(folder))


async def test_nothing_is_released_without_a_receipt(tmp_path: Path, small: Path) -> None:
    folder = small / "receipts"
    async with _guest(tmp_path, ReceiptsConfig(True, str(folder), required=True)) as (parts, kbs):
        assert parts.hub is not None and parts.agent is not None
        hub = parts.hub.hub
        await hub.get_resource(URI)
        filler = _fill(small)
        # What fits into the last page is written still.
        with pytest.raises(UnrecordedError):
            await _until_refused(parts)
        with pytest.raises(UnrecordedError, match="No space"):
            await hub.get_resource(URI)
        with pytest.raises(HandshakeUnrecordedError, match="No space"):
            await parts.agent.sessions.renew()
        kbs.set_resource_policy("package policy\ndefault allow = false\n")
        with pytest.raises(PolicyDeniedError):  # a no needs no receipt to be one
            await hub.get_resource(URI)
        kbs.set_resource_policy("package policy\ndefault allow = true\n")
        filler.unlink()
        assert (await hub.get_resource(URI)).reveal() == SECRET
    chain = examine_chain(read_directory(folder))
    assert chain.holds and chain.lost >= 3


async def test_without_required_the_guest_goes_on_and_says_what_is_missing(
    tmp_path: Path, small: Path
) -> None:
    folder = small / "receipts"
    async with _guest(tmp_path, ReceiptsConfig(True, str(folder))) as (parts, _):
        assert parts.hub is not None
        await parts.hub.hub.get_resource(URI)
        filler = _fill(small)
        for _ in range(100):
            assert (await parts.hub.hub.get_resource(URI)).reveal() == SECRET
        filler.unlink()
        await parts.hub.hub.get_resource(URI)
        assert parts.receipts is not None
        head = await parts.receipts.flush()
        values = parse(render(receipt_families(parts.receipts.counts())))
    chain = examine_chain(read_directory(folder))
    assert chain.holds and chain.lost
    assert values == {
        "cguest_receipts_total": head.sequence + 1,
        "cguest_receipts_lost_total": chain.lost,
        "cguest_receipts_failing": 0,
    }
    assert any(isinstance(receipt.body, Gap) for receipt in chain.receipts)


async def test_no_receipts_are_the_default(tmp_path: Path) -> None:
    async with _guest(tmp_path, ReceiptsConfig(directory=str(tmp_path / "receipts"))) as (parts, _):
        assert parts.hub is not None and parts.receipts is None
        assert (await parts.hub.hub.get_resource(URI)).reveal() == SECRET
    assert not (tmp_path / "receipts").exists()


async def test_a_chain_that_was_changed_keeps_a_guest_from_starting(tmp_path: Path) -> None:
    folder = tmp_path / "receipts"
    required = ReceiptsConfig(True, str(folder), required=True)
    async with _guest(tmp_path, required):
        pass
    (file,) = folder.glob("*.jsonl")
    file.write_bytes(
        file.read_bytes().replace(b'"measured"', b'"failed"').replace(b"stop", b"step")
    )
    with pytest.raises(ReceiptsDamagedError):
        async with _guest(tmp_path / "again", required):
            pass


@pytest.mark.parametrize(
    "receipts",
    [
        pytest.param(ReceiptsConfig(True, "receipts"), id="relative"),
        pytest.param(ReceiptsConfig(True, "/run/../etc/receipts"), id="not clean"),
        pytest.param(ReceiptsConfig(True, "/run"), id="not its own"),
        pytest.param(ReceiptsConfig(True, checkpoint_every=9), id="too often"),
        pytest.param(ReceiptsConfig(True, checkpoint_every=-1), id="negative"),
        pytest.param(ReceiptsConfig(False, required=True), id="required, but off"),
    ],
)
def test_settings_that_cannot_work_are_refused(receipts: ReceiptsConfig) -> None:
    with pytest.raises(SettingsError):
        receipts.check()
