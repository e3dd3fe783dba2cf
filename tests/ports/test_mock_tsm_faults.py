"""Each fault the mock TSM can play: what a caller sees, and that it bites as often as asked."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from mocktee.errors import TsmProcessError
from mocktee.tsm.faults import REGISTER_KINDS, FaultKind
from mocktee.tsm.process import TsmProcess
from tests.ports.syscalls import generation, read, refused, store

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]

DATA = bytes(range(64))
REPORT_DATA = slice(568, 632)  # in a version 4 quote
ATTRIBUTES = slice(168, 176)


def reads(check: Callable[[bytes], object]) -> Callable[[Path], None]:
    def run(entry: Path) -> None:
        store(entry, DATA)
        assert check(read(entry / "outblob"))
        store(entry, DATA)  # an empty quote stays cached for its generation
        assert read(entry / "outblob")[REPORT_DATA] == DATA

    return run


def fails(code: int) -> Callable[[Path], None]:
    def run(entry: Path) -> None:
        store(entry, DATA)
        with refused(code):
            read(entry / "outblob")
        assert generation(entry) == 1
        assert read(entry / "outblob")[REPORT_DATA] == DATA  # counters untouched: tried again

    return run


def mkdir_fails(code: int) -> Callable[[Path], None]:
    def run(entry: Path) -> None:
        other = entry.with_name(entry.name + "-2")
        with refused(code):
            os.mkdir(other)
        os.mkdir(other)
        os.rmdir(other)

    return run


def shows_other_provider(entry: Path) -> None:
    assert read(entry / "provider") == b"arm_cca_guest\n"
    assert read(entry / "provider") == b"tdx_guest\n"


def shows_provider_without_line_feed(entry: Path) -> None:
    assert read(entry / "provider") == b"tdx_guest"
    assert read(entry / "provider") == b"tdx_guest\n"


def counts(*values: int) -> Callable[[Path], None]:
    """The counter after each of so many stores."""

    def run(entry: Path) -> None:
        for value in values:
            store(entry, DATA)
            assert generation(entry) == value
        assert read(entry / "outblob")[REPORT_DATA] == DATA

    return run


def generation_is_no_number_once(entry: Path) -> None:
    assert read(entry / "generation") == b"many\n"
    assert generation(entry) == 0


def entry_vanishes(entry: Path) -> None:
    store(entry, DATA)
    with refused(errno.ENOENT):
        read(entry / "outblob")
    assert not entry.exists()


def store_is_seen_later(entry: Path) -> None:
    store(entry, DATA)
    assert generation(entry) == 0
    while generation(entry) == 0:  # bounded by the time limit of every test
        os.sched_yield()
    assert read(entry / "outblob")[REPORT_DATA] == DATA


def rival_store_is_seen(entry: Path) -> None:
    store(entry, DATA)
    assert read(entry / "outblob")[REPORT_DATA] != DATA
    assert generation(entry) == 2


FAULTS: list[tuple[dict[str, object], Callable[[Path], None]]] = [
    ({"kind": "no_provider"}, mkdir_fails(errno.ENXIO)),
    ({"kind": "entry_exists"}, mkdir_fails(errno.EEXIST)),
    ({"kind": "no_memory"}, mkdir_fails(errno.ENOMEM)),
    ({"kind": "no_space"}, mkdir_fails(errno.ENOSPC)),
    ({"kind": "bare_provider"}, shows_provider_without_line_feed),
    ({"kind": "wrong_provider", "provider": "arm_cca_guest"}, shows_other_provider),
    ({"kind": "busy"}, fails(errno.EBUSY)),
    # Python retries EINTR by itself (PEP 475) and gets the good answer.
    ({"kind": "eintr"}, reads(lambda quote: quote[REPORT_DATA] == DATA)),
    ({"kind": "timedout"}, fails(errno.ETIMEDOUT)),
    ({"kind": "eio"}, fails(errno.EIO)),
    ({"kind": "oversized"}, fails(errno.EFBIG)),
    ({"kind": "empty"}, reads(lambda quote: quote == b"")),
    ({"kind": "truncated", "length": 700}, reads(lambda quote: len(quote) == 700)),
    ({"kind": "trailing", "length": 70}, reads(lambda quote: quote.endswith(bytes(70)))),
    ({"kind": "corrupt", "offset": 0}, reads(lambda quote: quote[0] == 5)),
    ({"kind": "stale"}, reads(lambda quote: len(quote) > 4000)),
    ({"kind": "wrong_report_data"}, reads(lambda quote: quote[REPORT_DATA] != DATA)),
    ({"kind": "host_error"}, reads(lambda quote: quote == b"")),
    ({"kind": "zeros", "length": 32768}, reads(lambda quote: quote == bytes(32768))),
    ({"kind": "version", "version": 3}, reads(lambda quote: quote[:2] == b"\3\0")),
    (
        {"kind": "swapped_report_data"},
        reads(lambda quote: quote[REPORT_DATA] == DATA[::-1]),
    ),
    (
        {"kind": "lying_length", "field": "section", "delta": 1},
        reads(lambda quote: int.from_bytes(quote[632:636], "little") == len(quote) - 635),
    ),
    ({"kind": "flipped", "part": "header"}, reads(lambda quote: quote[12] == 0x92)),
    ({"kind": "chain", "chain": "none"}, reads(lambda quote: b"CERTIFICATE" not in quote)),
    ({"kind": "other_td"}, reads(lambda quote: quote[REPORT_DATA] == DATA)),
    ({"kind": "generation_stuck"}, counts(0, 1)),
    ({"kind": "generation_jump"}, counts(2, 3)),
    ({"kind": "generation_text"}, generation_is_no_number_once),
    ({"kind": "store_late", "seconds": 0.05}, store_is_seen_later),
    ({"kind": "entry_removed"}, entry_vanishes),
    ({"kind": "debug_td"}, reads(lambda quote: quote[ATTRIBUTES][0] & 1)),
    ({"kind": "generation_race"}, rival_store_is_seen),
    ({"kind": "slow", "seconds": 0.01}, reads(lambda quote: quote[REPORT_DATA] == DATA)),
]


@pytest.mark.parametrize(("fault", "case"), FAULTS, ids=[str(fault["kind"]) for fault, _ in FAULTS])
async def test_fault_bites_once(
    mock_tsm: TsmProcess, mock_entry: Path, fault: dict[str, object], case: Callable[[Path], None]
) -> None:
    await mock_tsm.set_faults([fault])
    await asyncio.to_thread(case, mock_entry)
    assert (await mock_tsm.state()).faults == ()


async def test_stale_quote_is_the_previous_one(mock_tsm: TsmProcess, mock_entry: Path) -> None:
    await asyncio.to_thread(store, mock_entry, b"\x01" * 64)
    first = await asyncio.to_thread(read, mock_entry / "outblob")
    await mock_tsm.set_faults([{"kind": "stale"}])
    await asyncio.to_thread(store, mock_entry, b"\x02" * 64)
    assert await asyncio.to_thread(read, mock_entry / "outblob") == first


async def test_fault_counts_down_or_stays(mock_tsm: TsmProcess, mock_entry: Path) -> None:
    await asyncio.to_thread(store, mock_entry, DATA)
    for count, left in ((2, 1), (None, None)):
        await mock_tsm.set_faults([{"kind": "busy", "count": count}])
        with refused(errno.EBUSY):
            await asyncio.to_thread(read, mock_entry / "outblob")
        assert [fault["count"] for fault in (await mock_tsm.state()).faults] == [left]
    await mock_tsm.clear_faults()
    assert (await asyncio.to_thread(read, mock_entry / "outblob"))[REPORT_DATA] == DATA


async def test_a_fault_can_be_limited_to_entries(mock_tsm: TsmProcess, mock_entry: Path) -> None:
    other = mock_entry.with_name("other-entry")
    await mock_tsm.set_faults([{"kind": "busy", "count": None, "entry": "other-"}])
    await asyncio.to_thread(store, mock_entry, DATA)
    assert (await asyncio.to_thread(read, mock_entry / "outblob"))[REPORT_DATA] == DATA
    await asyncio.to_thread(os.mkdir, other)
    try:
        await asyncio.to_thread(store, other, DATA)
        with refused(errno.EBUSY):
            await asyncio.to_thread(read, other / "outblob")
    finally:
        await asyncio.to_thread(os.rmdir, other)
        await mock_tsm.clear_faults()


async def test_a_fault_can_be_limited_in_time(mock_tsm: TsmProcess, mock_entry: Path) -> None:
    await asyncio.to_thread(store, mock_entry, DATA)
    await mock_tsm.set_faults([{"kind": "busy", "count": None, "lasting": 0}])
    assert (await asyncio.to_thread(read, mock_entry / "outblob"))[REPORT_DATA] == DATA
    await mock_tsm.set_faults([{"kind": "busy", "count": None, "lasting": 60}])
    await asyncio.to_thread(store, mock_entry, DATA)
    with refused(errno.EBUSY):
        await asyncio.to_thread(read, mock_entry / "outblob")
    [fault] = (await mock_tsm.state()).faults
    assert fault == {"kind": "busy", "count": None, "lasting": 60.0}
    await mock_tsm.clear_faults()


async def test_the_boot_log_changes_its_form(mock_tsm: TsmProcess) -> None:
    whole = await asyncio.to_thread(read, mock_tsm.ccel)
    await mock_tsm.set_ccel("truncated")
    assert whole.startswith(await asyncio.to_thread(read, mock_tsm.ccel))
    await mock_tsm.set_ccel("absent")
    assert not mock_tsm.ccel.exists()
    assert mock_tsm.ccel_table.exists()
    await mock_tsm.set_ccel("whole")
    assert await asyncio.to_thread(read, mock_tsm.ccel) == whole
    with pytest.raises(TsmProcessError, match="HTTP 400"):
        await mock_tsm.set_ccel("improved")


async def test_every_fault_of_entries_is_played() -> None:
    played = {str(fault["kind"]) for fault, _ in FAULTS} | {"hold"}
    assert played == {kind.value for kind in FaultKind if kind not in REGISTER_KINDS}


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param({"kind": "nonsense"}, id="unknown-kind"),
        pytest.param({"kind": "busy", "entry": 1}, id="entry-is-a-number"),
        pytest.param({"kind": "register_busy", "entry": "a"}, id="registers-have-no-entry"),
        pytest.param({"kind": "busy", "lasting": -1}, id="negative-time"),
        pytest.param({"kind": "lying_length", "field": "all"}, id="unknown-field"),
        pytest.param({"kind": "lying_length", "delta": 1.5}, id="broken-delta"),
        pytest.param({"kind": "version", "version": 65536}, id="version-too-large"),
        pytest.param({"kind": "chain", "chain": ["none"]}, id="list-of-chains"),
        pytest.param({"count": 1}, id="no-kind"),
        pytest.param({"kind": "busy", "count": 0}, id="zero-count"),
        pytest.param({"kind": "busy", "count": True}, id="boolean-count"),
        pytest.param({"kind": "busy", "seconds": 1}, id="foreign-parameter"),
        pytest.param({"kind": "slow", "seconds": 1e9}, id="too-long"),
        pytest.param({"kind": "slow", "seconds": "1"}, id="text-for-a-number"),
        pytest.param({"kind": "truncated", "length": -1}, id="negative-length"),
        pytest.param({"kind": "wrong_provider", "provider": "a\nb"}, id="unprintable-provider"),
    ],
)
async def test_bad_fault_is_refused_and_changes_nothing(
    mock_tsm: TsmProcess, faults: dict[str, object]
) -> None:
    await mock_tsm.set_faults([{"kind": "no_memory"}])
    with pytest.raises(TsmProcessError, match="HTTP 400"):
        await mock_tsm.set_faults([faults])
    assert [fault["kind"] for fault in (await mock_tsm.state()).faults] == ["no_memory"]
    await mock_tsm.clear_faults()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/faults", b"not json", 400),
        ("/faults", b"[" * 5000, 400),
        ("/faults", b"{}", 400),
        ("/faults", b"[" + b"0," * 100 + b"0]", 400),
        ("/faults", b" " * 100_000, 413),
        ("/tamper", b'{"register": "rtmr1", "value": "00", "more": 1}', 400),
        ("/tamper", b'{"register": 1, "value": "00"}', 400),
        ("/ccel", b'{"form": "whole", "more": 1}', 400),
        ("/ccel", b'{"form": 1}', 400),
        ("/nothing", b"", 404),
    ],
    ids=[
        "text",
        "deep",
        "object",
        "many",
        "huge",
        "unknown-member",
        "wrong-type",
        "unknown-ccel-member",
        "ccel-number",
        "unknown-path",
    ],
)
async def test_control_is_strict(mock_tsm: TsmProcess, path: str, body: bytes, status: int) -> None:
    connector = aiohttp.UnixConnector(path=str(mock_tsm.control))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"http://tsm{path}", data=body) as response,
    ):
        assert response.status == status
    assert (await mock_tsm.state()).faults == ()
