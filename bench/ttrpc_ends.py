"""One end of the calls: ``python -m bench.ttrpc_ends server SOCKET``, or ``client`` with numbers.

The numbers are how many calls are in flight and how many there are.
The client prints the seconds of all calls, then each call's microseconds, as the Go program does.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from lifecycle import UnixAddress, listen_unix
from protos import services
from protos.api_pb2 import GetResourceRequest, GetResourceResponse
from protos.stubs import GetResourceStub
from secrecy.journal import configure_logging
from ttrpc import CallContext, Client, Method, Server, ServiceTable

RESOURCE = b"x" * 1024
URI = "kbs:///default/key/1"
CALL_SECONDS = 30.0


async def serve(path: str) -> None:
    """Answer until standard input ends."""

    async def get_resource(_: GetResourceRequest, __: CallContext) -> GetResourceResponse:
        return GetResourceResponse(Resource=RESOURCE)

    method = Method(GetResourceRequest, GetResourceResponse, get_resource)
    server = Server([ServiceTable(services.GET_RESOURCE, {"GetResource": method})])
    with await listen_unix(UnixAddress(path)) as listening:
        serving = asyncio.create_task(server.serve(listening.sock))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.drain(1)
        await serving


async def call(path: str, in_flight: int, count: int) -> None:
    times = []
    left = iter(range(count))
    async with await Client.connect(path, timeout_s=CALL_SECONDS) as client:
        stub = GetResourceStub(client)

        async def worker() -> None:
            for _ in left:
                begin = time.perf_counter()
                await stub.get_resource(URI, timeout_s=CALL_SECONDS)
                times.append(time.perf_counter() - begin)

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker())
        elapsed = time.perf_counter() - start
    print(f"{elapsed:.6f}", *(f"{one * 1e6:.1f}" for one in times), sep="\n")


def main(role: str, path: str, *numbers: str) -> None:
    configure_logging("warning")
    if role == "server":
        uvloop.run(serve(path))
    else:
        uvloop.run(call(path, *map(int, numbers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
