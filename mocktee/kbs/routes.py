"""The application: which request goes to which handler, and how refusals are written.

Also owns the mock's own control interface: ``GET /mock/state`` for anyone on the loopback, and
``POST``, ``GET``, ``DELETE /mock/faults`` with the admin token.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mocktee.kbs.administration import Administration
from mocktee.kbs.counters import Counters, Refusal
from mocktee.kbs.encoding import Json, compact_json, parse_object
from mocktee.kbs.era import Era
from mocktee.kbs.errors import (
    TYPE_PREFIX,
    FaultFormatError,
    FrameworkRefusedError,
    HandlerPanicError,
    PluginNotFoundError,
    ProblemError,
)
from mocktee.kbs.faults import FaultPlan
from mocktee.kbs.misbehaviour import misbehaviour
from mocktee.kbs.protocol import KbsProtocol
from mocktee.kbs.sessions import SessionStore
from mocktee.kbs.wording import word

PREFIX: Final = "/kbs/v0"
_DEFAULT_TYPE: Final = "application/octet-stream"  # what aiohttp puts where we put nothing
_PLUGIN_METHODS: Final = ("GET", "POST", "PUT", "DELETE")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of."""

    era: Era
    protocol: KbsProtocol
    administration: Administration
    sessions: SessionStore
    faults: FaultPlan
    counters: Counters
    body_limit: int
    verbose_refusals: bool


def build_application(parts: Parts) -> web.Application:
    """Return the application; it starts nothing by itself."""
    application = web.Application(
        client_max_size=parts.body_limit,
        middlewares=[
            misbehaviour(parts.faults, parts.counters),
            _problems(parts.era, parts.counters, verbose=parts.verbose_refusals),
        ],
    )
    application.on_response_prepare.append(_drop_default_type)
    _add_protocol(application.router, parts)
    _add_administration(application.router, parts.administration)
    if parts.era.reference_values:
        _add_reference_values(application.router, parts.administration)
    _add_control(application.router, parts)
    for method in _PLUGIN_METHODS if parts.era.plugins else ():
        application.router.add_route(method, PREFIX + "/{plugin}{rest:.*}", _no_plugin)
    return application


def _add_protocol(router: web.UrlDispatcher, parts: Parts) -> None:
    protocol, administration = parts.protocol, parts.administration

    async def resource(request: web.Request) -> web.StreamResponse:
        text = request.match_info.get("path", "")
        segments = text.split("/") if text else []
        match request.method:
            case "GET":
                return await protocol.resource(request, segments)
            case "POST":
                return await administration.put_resource(request, segments)
            case "DELETE" if parts.era.deletes:
                return await administration.delete_resource(request, segments)
            case _ if not parts.era.deletes:
                raise FrameworkRefusedError(405)  # only GET and POST had routes
            case _:
                return await protocol.unsupported(request, segments)

    router.add_post(PREFIX + "/auth", protocol.auth)
    router.add_post(PREFIX + "/attest", protocol.attest)
    for method in _PLUGIN_METHODS:
        router.add_route(method, PREFIX + "/resource", resource)
        router.add_route(method, PREFIX + "/resource/{path:.*}", resource)
    if parts.era.health:
        router.add_get("/healthz", _healthy)


def _add_administration(router: web.UrlDispatcher, administration: Administration) -> None:
    router.add_post(PREFIX + "/resource-policy", administration.set_resource_policy)
    router.add_get(PREFIX + "/resource-policy", administration.list_resource_policies)
    router.add_post(PREFIX + "/attestation-policy", administration.set_attestation_policy)


def _add_reference_values(router: web.UrlDispatcher, administration: Administration) -> None:
    router.add_post(PREFIX + "/reference-value", administration.register_reference_values)
    router.add_get(PREFIX + "/reference-value/{id}", administration.get_reference_value)


def _add_control(router: web.UrlDispatcher, parts: Parts) -> None:
    async def state(_request: web.Request) -> web.Response:
        document = parts.counters.to_json()
        document["sessions"] = len(parts.sessions)
        document["faults_pending"] = len(parts.faults)
        return _json(document)

    async def add_fault(request: web.Request) -> web.Response:
        parts.administration.check_control(request)
        try:
            parts.faults.add_json(parse_object(await request.read()))
        except (FaultFormatError, ValueError) as error:
            return _json({"error": str(error)}, status=400)
        return _json({"faults_pending": len(parts.faults)})

    async def clear_faults(request: web.Request) -> web.Response:
        parts.administration.check_control(request)
        parts.faults.clear()
        return _json({"faults_pending": 0})

    router.add_get("/mock/state", state)
    router.add_post("/mock/faults", add_fault)
    router.add_delete("/mock/faults", clear_faults)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response()


async def _no_plugin(request: web.Request) -> web.Response:
    raise PluginNotFoundError(request.match_info["plugin"].partition("/")[0])


def _problems(era: Era, counters: Counters, *, verbose: bool) -> Middleware:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as refusal:
            return web.Response(status=refusal.status)  # actix says nothing there
        except FrameworkRefusedError as refusal:
            return web.Response(status=refusal.status, text=refusal.text or None)
        except HandlerPanicError:
            return _hang_up(request)
        except ProblemError as error:
            log.info("refused %s: %s", request.path, error)
            problem = word(error, era)
            counters.refusals.append(
                Refusal(request.path[:256], problem.variant, problem.detail, error.reason)
            )
            detail = problem.detail
            if verbose and error.reason and error.reason not in detail:
                detail = f"{detail}: {error.reason}"
            document: Json = {"type": TYPE_PREFIX + problem.variant, "detail": detail}
            return web.Response(status=problem.status, body=compact_json(document))

    return answer


def _hang_up(request: web.Request) -> web.StreamResponse:
    """End the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _drop_default_type(_request: web.Request, response: web.StreamResponse) -> None:
    """Send no Content-Type where Trustee sends none: on error documents and empty answers."""
    if response.headers.get("Content-Type") == _DEFAULT_TYPE:
        del response.headers["Content-Type"]


def _json(document: Json, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=compact_json(document), content_type="application/json")
