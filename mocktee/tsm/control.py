"""The control socket: HTTP over a unix socket, for the harness and for tests only.

``GET /state``; ``POST /faults`` with a list that replaces the current one; ``DELETE /faults``;
``POST /tamper`` with ``{"register": "rtmr1", "value": "<96 hex digits>"}``; ``POST /ccel`` with
``{"form": "truncated"}`` or another of ``mocktee.tsm.ccel_forms``. Bodies are bounded and
unknown members refused with 400 and ``{"error": ...}``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from os import umask, unlink
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mocktee.errors import FaultSpecError
from mocktee.td import TdState
from mocktee.tsm.ccel_forms import FORMS
from mocktee.tsm.subsystem import ReportSubsystem
from mocktee.tsm.tree import Tree

MAX_BODY: Final = 64 * 1024


class Control:
    """Handlers over the state of one TSM."""

    def __init__(self, td: TdState, subsystem: ReportSubsystem, tree: Tree) -> None:
        self._td = td
        self._subsystem = subsystem
        self._tree = tree

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_bad_requests])
        app.router.add_get("/state", self.state)
        app.router.add_post("/faults", self.replace_faults)
        app.router.add_delete("/faults", self.clear_faults)
        app.router.add_post("/tamper", self.tamper)
        app.router.add_post("/ccel", self.ccel)
        return app

    async def state(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "registers": {name: value.hex() for name, value in self._td.registers().items()},
                "attributes": self._td.attributes,
                "kernel": self._subsystem.provider.profile.name,
                "quotes_made": self._subsystem.provider.quotes_made,
                "entries": sorted(
                    name.decode(errors="replace") for name in self._subsystem.entries
                ),
                "faults": [fault.to_json() for fault in self._subsystem.faults.faults],
            }
        )

    async def replace_faults(self, request: web.Request) -> web.Response:
        self._subsystem.faults.replace(await _json(request))
        return web.Response(status=204)

    async def clear_faults(self, _request: web.Request) -> web.Response:
        self._subsystem.faults.clear()
        return web.Response(status=204)

    async def tamper(self, request: web.Request) -> web.Response:
        match await _json(request):
            case {"register": str(register), "value": str(value), **rest} if not rest:
                self._tamper(register, value)
            case _:
                raise FaultSpecError("tamper", 'expected {"register": name, "value": hex}')
        return web.Response(status=204)

    async def ccel(self, request: web.Request) -> web.Response:
        match await _json(request):
            case {"form": str(form), **rest} if not rest and form in FORMS:
                self._tree.set_ccel(form)
            case _:
                raise FaultSpecError("ccel", f'expected {{"form": one of {", ".join(FORMS)}}}')
        return web.Response(status=204)

    def _tamper(self, register: str, value: str) -> None:
        try:
            self._td.tamper(register, bytes.fromhex(value))
        except KeyError as error:
            raise FaultSpecError("register", f"no such register: {register[:40]!r}") from error
        except ValueError as error:
            raise FaultSpecError("value", str(error)) from error


async def _json(request: web.Request) -> object:
    try:
        value: object = json.loads(await request.text())
    except (ValueError, RecursionError) as error:
        raise FaultSpecError("body", "not JSON") from error
    return value


@web.middleware
async def _bad_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FaultSpecError as error:
        return web.json_response({"error": str(error)}, status=400)


@asynccontextmanager
async def control_socket(path: str, control: Control) -> AsyncIterator[None]:
    """Serve on ``path`` (mode 0600) for the duration; the file is removed afterwards."""
    runner = web.AppRunner(control.application(), access_log=None)
    await runner.setup()
    try:
        old = umask(0o177)
        try:
            await web.UnixSite(runner, path).start()
        finally:
            umask(old)
        yield
    finally:
        await runner.cleanup()
        with suppress(FileNotFoundError):
            unlink(path)
