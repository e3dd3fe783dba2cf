"""``interop.Peer`` of ``peer.proto`` as our server has it; the programs have their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lifecycle import UnixAddress, listen_unix
from tests.interop.peer_pb2 import Note, Pair
from tests.interop.peers import PATIENCE_S, PEER
from ttrpc import (
    CallContext,
    ClientStreamMethod,
    Code,
    DuplexMethod,
    Limits,
    Method,
    Receiver,
    Sender,
    Server,
    ServerStreamMethod,
    ServiceTable,
    StatusError,
)


class EchoService:
    """Counts the calls that hang, so that tests need not wait for a time."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._begun = 0
        self._cancelled = 0

    def table(self) -> ServiceTable:
        return ServiceTable(
            PEER,
            {
                "Echo": Method(Note, Note, self._echo),
                "Hang": Method(Note, Note, self._hang),
                "Begun": Method(Note, Note, self._answer_begun),
                "Cancelled": Method(Note, Note, self._answer_cancelled),
                "Collect": ClientStreamMethod(Note, Note, self._collect),
                "Expand": ServerStreamMethod(Note, Note, self._expand),
                "Chat": DuplexMethod(Note, Note, self._chat),
            },
        )

    async def begun(self, number: int) -> None:
        """Wait until so many calls of Hang have begun."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self._begun >= number)

    async def cancelled(self, number: int) -> None:
        """Wait until so many calls of Hang have been cancelled."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self._cancelled >= number)

    async def _echo(self, note: Note, context: CallContext) -> Note:
        _check(note)
        pairs = sorted((key, value) for key, values in context.metadata.items() for value in values)
        return Note(
            payload=note.payload or bytes(note.number),
            text=note.text,
            number=note.number,
            metadata=[Pair(key=key, value=value) for key, value in pairs],
        )

    async def _hang(self, note: Note, _context: CallContext) -> Note:
        async with self._changed:
            self._begun += 1
            self._changed.notify_all()
        try:
            await asyncio.Event().wait()
        finally:
            async with self._changed:
                self._cancelled += 1
                self._changed.notify_all()
        return note

    async def _answer_begun(self, note: Note, _context: CallContext) -> Note:
        await self.begun(note.number)
        return note

    async def _answer_cancelled(self, note: Note, _context: CallContext) -> Note:
        await self.cancelled(note.number)
        return note

    async def _collect(self, received: Receiver[Note], _context: CallContext) -> Note:
        texts = []
        async for note in received:
            _check(note)
            texts.append(note.text)
        return Note(number=len(texts), text=",".join(texts))

    async def _expand(self, note: Note, sender: Sender[Note], _context: CallContext) -> None:
        for number in range(note.number):
            await sender.send(Note(number=number, payload=note.payload))
        _check(note)

    async def _chat(
        self, received: Receiver[Note], sender: Sender[Note], _context: CallContext
    ) -> None:
        count = 0
        async for note in received:
            _check(note)
            await sender.send(note)
            count += 1
        await sender.send(Note(text="end", number=count))


def _check(note: Note) -> None:
    if note.code:
        raise StatusError(Code(note.code), note.text)


@asynccontextmanager
async def echo_server(
    socket: Path, limits: Limits | None = None
) -> AsyncIterator[tuple[EchoService, asyncio.Task[None]]]:
    """Our server on ``socket`` and the task that serves; cancelling the task ends it at once."""
    service = EchoService()
    server = Server([service.table()], limits)
    with await listen_unix(UnixAddress(str(socket))) as listening:
        task = asyncio.create_task(server.serve(listening.sock))
        try:
            yield service, task
        finally:
            task.cancel()
            await asyncio.wait({task})
