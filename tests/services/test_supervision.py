"""Parts fail, are replaced and come back; connections, callers and other parts do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle import UnixAddress
from protos import api_pb2
from protos.services import GET_RESOURCE
from protos.stubs import GetResourceStub
from protos.tables import get_resource_table
from serving.doors import Door, UnixDoor
from serving.errors import PartUnavailableError
from serving.opening import open_doors
from serving.present import Present, Tenure
from serving.supervisor import Part, Supervised, Supervisor
from serving.switchboard import Switchboard
from ttrpc import CallContext, Client, Code, ServiceTable, StatusError

LIMIT_SECONDS = 20
SECRET = "the-canary-in-an-exception"


@dataclass(slots=True, eq=False)
class Echo:
    """An instance of the part under test: answers with its number, until told to fail."""

    number: int
    tables: list[ServiceTable] = field(default_factory=list)
    fail: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def get_resource(
        self, request: api_pb2.GetResourceRequest, _context: CallContext
    ) -> api_pb2.GetResourceResponse:
        self.asked.set()
        if request.ResourcePath == "slow":
            await self.answer.wait()
        if request.ResourcePath == "memory":
            raise MemoryError(SECRET)
        return api_pb2.GetResourceResponse(Resource=b"%d" % self.number)

    async def work(self) -> None:
        await self.fail.wait()
        raise ValueError(SECRET)


class Workshop:
    """Makes instances; refuses to while ``broken``."""

    def __init__(self) -> None:
        self.made: list[Echo] = []
        self.broken: Exception | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Echo]:
        if self.broken is not None:
            raise self.broken
        echo = Echo(len(self.made) + 1)
        echo.tables.append(get_resource_table(echo))
        self.made.append(echo)
        try:
            yield echo
        finally:
            echo.closed = True

    def closed(self) -> list[int]:
        return [echo.number for echo in self.made if echo.closed]

    def part(self, *, exclusive: bool = False) -> Part[Echo]:
        def background(echo: Echo) -> list[Callable[[], Coroutine[Any, Any, None]]]:
            return [echo.work]

        return Part("echo", "the echo", self.open, background, exclusive)


@dataclass(frozen=True, slots=True)
class Ground:
    """A part behind a door, and one connection that is never made anew."""

    workshop: Workshop
    part: Supervised[Echo]
    client: Client

    async def ask(self, path: str = "") -> bytes:
        reply = await GetResourceStub(self.client).get_resource(path, timeout_s=LIMIT_SECONDS)
        return reply.Resource


@asynccontextmanager
async def ground(folder: Path, *, wait_seconds: float = LIMIT_SECONDS) -> AsyncIterator[Ground]:
    workshop = Workshop()
    address = UnixAddress(str(folder / "echo.sock"))
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(Supervisor())
        part = await supervisor.start(workshop.part())
        part.present.wait_seconds = wait_seconds
        board = Switchboard(part.present, lambda echo: echo.tables)
        door = Door(UnixDoor(address), board.tables(workshop.made[0]))
        await stack.enter_async_context(open_doors({"echo": door}))
        client = await stack.enter_async_context(await Client.connect(address.path))
        async with asyncio.timeout(LIMIT_SECONDS):
            yield Ground(workshop, part, client)


async def test_a_failed_part_is_opened_again_behind_the_same_connection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ground(tmp_path) as on:
        assert await on.ask() == b"1"
        on.workshop.made[0].fail.set()
        await on.part.present.until_gone(on.workshop.made[0])
        assert await on.ask() == b"2"
        assert on.part.restarts == 1
        assert on.workshop.made[0].closed
    assert on.workshop.made[1].closed
    said = capsys.readouterr().err
    assert "part failed" in said
    assert "ValueError" in said
    assert SECRET not in said


async def test_callers_read_why_when_it_does_not_come_back(tmp_path: Path) -> None:
    async with ground(tmp_path, wait_seconds=0.05) as on:
        on.workshop.broken = ValueError(SECRET)
        on.workshop.made[0].fail.set()
        await on.part.present.until_gone(on.workshop.made[0])
        with pytest.raises(StatusError) as caught:
            await on.ask()
        assert caught.value.code == Code.UNAVAILABLE
        assert "the echo is not available: it failed and is started again" in str(caught.value)
        assert SECRET not in str(caught.value)
        on.workshop.broken = None
        on.part.present.wait_seconds = LIMIT_SECONDS
        assert await on.ask() == b"2"


async def test_a_call_under_way_is_cut_off_with_a_reason_when_its_part_fails(
    tmp_path: Path,
) -> None:
    async with ground(tmp_path) as on:
        call = asyncio.create_task(on.ask("slow"))
        await on.workshop.made[0].asked.wait()
        on.workshop.made[0].fail.set()
        with pytest.raises(StatusError) as caught:
            await call
        assert caught.value.code == Code.UNAVAILABLE
        assert "it ended during the call" in str(caught.value)


@pytest.mark.parametrize("exclusive", [False, True], ids=["beside", "one at a time"])
async def test_a_replaced_part_finishes_its_calls(tmp_path: Path, exclusive: bool) -> None:
    async with ground(tmp_path) as on:
        call = asyncio.create_task(on.ask("slow"))
        old = on.workshop.made[0]
        await old.asked.wait()
        replacing = asyncio.create_task(on.part.replace(on.workshop.part(exclusive=exclusive)))
        await on.part.present.until_gone(old)
        fresh = asyncio.create_task(on.ask())
        if not exclusive:
            assert await fresh == b"2"
        assert on.workshop.closed() == []
        old.answer.set()
        assert await call == b"1"
        await replacing
        assert on.workshop.closed() == [1]
        assert await fresh == b"2"
        assert on.part.restarts == 0


@pytest.mark.parametrize("exclusive", [False, True], ids=["beside", "one at a time"])
async def test_a_replacement_that_does_not_open_changes_nothing(
    tmp_path: Path, exclusive: bool
) -> None:
    async with ground(tmp_path) as on:
        bad = Workshop()
        bad.broken = OSError("no")
        with pytest.raises(OSError, match="no"):
            await on.part.replace(bad.part(exclusive=exclusive))
        # The one that could not stay beside the new one was opened again.
        assert await on.ask() == (b"2" if exclusive else b"1")
        on.workshop.made[-1].fail.set()
        await on.part.present.until_gone(on.workshop.made[-1])
        assert await on.ask() == (b"3" if exclusive else b"2")


async def test_memory_that_is_not_there_fails_one_call(tmp_path: Path) -> None:
    async with ground(tmp_path) as on:
        with pytest.raises(StatusError) as caught:
            await on.ask("memory")
        assert SECRET not in str(caught.value)
        assert await on.ask() == b"1"
        assert on.part.restarts == 0


async def test_other_parts_go_on(tmp_path: Path) -> None:
    other = Workshop()
    async with ground(tmp_path) as on, Supervisor() as supervisor:
        await supervisor.start(replace(other.part(), name="other"))
        on.workshop.made[0].fail.set()
        await on.part.present.until_gone(on.workshop.made[0])
        assert await on.ask() == b"2"
        assert len(other.made) == 1
        assert not other.made[0].closed


async def test_what_cannot_be_opened_at_first_is_the_callers_error() -> None:
    workshop = Workshop()
    workshop.broken = OSError("no device")
    async with Supervisor() as supervisor:
        with pytest.raises(OSError, match="no device"):
            await supervisor.start(workshop.part())
        assert supervisor.parts == []


async def test_work_that_returns_is_done_and_no_failure(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    workshop = Workshop()
    part = Part("echo", "the echo", workshop.open, lambda _echo: [work])
    async with Supervisor() as supervisor:
        supervised = await supervisor.start(part)
        await done.wait()
        assert supervised.running
        assert supervised.restarts == 0


async def test_a_cancelled_call_is_no_part_that_went_away() -> None:
    present: Present[int] = Present("the number")
    present.turn_to(Tenure("the number", 1))

    async def forever(_number: int) -> None:
        await asyncio.Event().wait()

    call = asyncio.create_task(present.call(forever))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    empty: Present[int] = Present("the number", wait_seconds=0)
    with pytest.raises(PartUnavailableError, match="the number is not available"):
        await empty.call(forever)


async def test_a_method_that_the_present_part_lacks_is_named(tmp_path: Path) -> None:
    async with ground(tmp_path) as on:

        @asynccontextmanager
        async def smaller() -> AsyncIterator[Echo]:
            yield Echo(9, tables=[ServiceTable(GET_RESOURCE, {})])

        await on.part.replace(Part("echo", "the echo", smaller, lambda _echo: []))
        with pytest.raises(StatusError) as caught:
            await on.ask()
        assert caught.value.code == Code.UNIMPLEMENTED
        assert "GetResource is not served at present" in str(caught.value)


@pytest.mark.parametrize(
    "place",
    ["ttrpc.server.credentials_of", "ttrpc.connection.Connection.run"],
    ids=["when accepted", "later"],
)
async def test_a_connection_that_fails_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    def fail(*_arguments: object) -> None:
        raise MemoryError(SECRET)

    async with ground(tmp_path) as on:
        assert await on.ask() == b"1"
        with monkeypatch.context() as broken:
            broken.setattr(place, fail)
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "echo.sock"))
            assert await reader.read() == b""
            writer.close()
        assert await on.ask() == b"1"
        async with await Client.connect(str(tmp_path / "echo.sock")) as another:
            reply = await GetResourceStub(another).get_resource("", timeout_s=LIMIT_SECONDS)
            assert reply.Resource == b"1"
    assert SECRET not in capsys.readouterr().err
