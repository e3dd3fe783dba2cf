"""A service of streaming methods for tests, each of which shows what its handler meets."""

from __future__ import annotations

import asyncio

from protos.api_pb2 import GetResourceRequest as Asked
from protos.api_pb2 import GetResourceResponse as Answer
from ttrpc import (
    AnyMethod,
    CallContext,
    ClientStreamMethod,
    Code,
    DuplexMethod,
    Receiver,
    Sender,
    ServerStreamMethod,
    ServiceTable,
    StatusError,
)

STREAMING = "test.Streaming"


class StreamingService:
    """Joins, counts, echoes; holds when told to."""

    def __init__(self) -> None:
        self.entered: asyncio.Queue[str] = asyncio.Queue()
        self.left: asyncio.Queue[str] = asyncio.Queue()
        self.taken: asyncio.Queue[str] = asyncio.Queue()
        self.release = asyncio.Event()
        self.contexts: list[CallContext] = []

    async def join(self, messages: Receiver[Asked], context: CallContext) -> Answer:
        self.contexts.append(context)
        paths = [message.ResourcePath async for message in messages]
        return Answer(Resource=" ".join(paths).encode())

    async def first(self, messages: Receiver[Asked], context: CallContext) -> Answer:
        """Answers the first message and reads no other."""
        async for message in messages:
            return Answer(Resource=message.ResourcePath.encode())
        raise StatusError(Code.OUT_OF_RANGE, "no first")

    async def count(self, request: Asked, sender: Sender[Answer], context: CallContext) -> None:
        """Sends the numbers below the one asked for."""
        self.contexts.append(context)
        for number in range(int(request.ResourcePath or "0")):
            await sender.send(Answer(Resource=str(number).encode()))

    async def fill(self, request: Asked, sender: Sender[Answer], context: CallContext) -> None:
        """Sends messages of the length asked for until it is stopped."""
        self.entered.put_nowait(request.ResourcePath)
        try:
            while True:
                await sender.send(Answer(Resource=bytes(int(request.ResourcePath))))
        finally:
            self.left.put_nowait(request.ResourcePath)

    async def break_off(self, request: Asked, sender: Sender[Answer], context: CallContext) -> None:
        """Sends one message, then fails with the code asked for."""
        await sender.send(Answer(Resource=b"before"))
        if request.ResourcePath == "crash":
            raise KeyError("hunter2")
        raise StatusError(Code[request.ResourcePath], "broken off as asked")

    async def echo(
        self, messages: Receiver[Asked], sender: Sender[Answer], context: CallContext
    ) -> None:
        async for message in messages:
            await sender.send(Answer(Resource=message.ResourcePath.encode()))

    async def hold(
        self, messages: Receiver[Asked], sender: Sender[Answer], context: CallContext
    ) -> None:
        """Takes no message until released, then all."""
        self.entered.put_nowait("held")
        try:
            await self.release.wait()
            async for message in messages:
                self.taken.put_nowait(message.ResourcePath[:20])
        except asyncio.CancelledError:
            self.left.put_nowait("cancelled")
            raise
        self.left.put_nowait("ended")

    async def stubborn(
        self, messages: Receiver[Asked], sender: Sender[Answer], context: CallContext
    ) -> None:
        """Goes on sending and reading after it was cancelled."""
        try:
            async for message in messages:
                self.taken.put_nowait(message.ResourcePath)
        except asyncio.CancelledError:
            try:
                await sender.send(Answer(Resource=b"after the end"))
            except StatusError as error:
                self.left.put_nowait(error.message)
            try:
                await anext(messages)
            except StatusError as error:
                self.left.put_nowait(error.message)
            raise

    async def wrong_type(
        self, messages: Receiver[Asked], sender: Sender[Answer], context: CallContext
    ) -> None:
        await sender.send(Asked())  # type: ignore[arg-type]

    async def wrong_reply(self, messages: Receiver[Asked], context: CallContext) -> Asked:
        return Asked()

    def table(self) -> ServiceTable:
        methods: dict[str, AnyMethod] = {
            "Join": ClientStreamMethod(Asked, Answer, self.join),
            "First": ClientStreamMethod(Asked, Answer, self.first),
            "WrongReply": ClientStreamMethod(
                Asked,
                Answer,
                self.wrong_reply,  # type: ignore[arg-type]
            ),
            "Count": ServerStreamMethod(Asked, Answer, self.count),
            "Fill": ServerStreamMethod(Asked, Answer, self.fill),
            "BreakOff": ServerStreamMethod(Asked, Answer, self.break_off),
            "Echo": DuplexMethod(Asked, Answer, self.echo),
            "Hold": DuplexMethod(Asked, Answer, self.hold),
            "Stubborn": DuplexMethod(Asked, Answer, self.stubborn),
            "WrongType": DuplexMethod(Asked, Answer, self.wrong_type),
        }
        return ServiceTable(STREAMING, methods)
