"""The request path: address, faults, authentication, operation, and errors as OSS documents.

One handler serves every path; :mod:`aiohttp` routing is not used, because it would normalise paths
that OSS takes as they are.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import ClientError, web

from mocktee.oss.authentication import Authenticator
from mocktee.oss.call import XML_TYPE, Call, ServerSettings, new_request_id
from mocktee.oss.documents import document, element, text_element
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.faults import Fault, FaultKind, FaultSwitch, first
from mocktee.oss.objects import RESERVED_BUCKET, ObjectStore
from mocktee.oss.operations import OPERATIONS, operation_of
from mocktee.oss.request import OssRequest, virtual_bucket
from mocktee.oss.sending import AnswerCutError, drop

CONTROL_PATH: Final = f"/{RESERVED_BUCKET}/"

_LOG: Final = logging.getLogger("mocktee.oss")

Control = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class OssService:
    """Carries out requests. ``counters`` has operation names, and ``error:CODE`` per error."""

    def __init__(
        self,
        store: ObjectStore,
        authenticator: Authenticator,
        faults: FaultSwitch,
        settings: ServerSettings,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.control: Control | None = None
        self._store = store
        self._authenticator = authenticator
        self._faults = faults
        self._settings = settings

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The one entry point. A client that goes away, or is sent away, is no error here."""
        target = request.raw_path
        virtual = virtual_bucket(request.headers.get("Host", ""))
        if target.startswith(CONTROL_PATH) and not virtual and self.control is not None:
            return await self.control(request)
        request_id = new_request_id()
        try:
            return await self._answer(request, target, request_id)
        except OssAnswerError as error:
            self.counters[f"error:{error.code}"] += 1
            return error_answer(request, error, request_id)
        except (AnswerCutError, ConnectionError, ClientError):
            # Nothing can be said any more; a closed transport swallows this answer.
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=400, headers={"x-oss-request-id": request_id})

        except Exception:  # noqa: BLE001 (the dispatch boundary)
            # One bad request must not look like a dead server.
            _LOG.exception("operation failed")
            self.counters["error:InternalError"] += 1
            broken = OssAnswerError("InternalError", "We encountered an internal error.")
            return error_answer(request, broken, request_id)

    async def _answer(
        self, request: web.BaseRequest, target: str, request_id: str
    ) -> web.StreamResponse:
        oss = OssRequest.parse(
            request.method, target, request.headers.get("Host", ""), request.headers.items()
        )
        operation = operation_of(oss)
        self.counters[operation] += 1
        struck = self._faults.take(operation, oss.method, oss.key)
        await _before(struck)
        self._authenticator.authenticate(oss)
        bucket = self._store.bucket(oss.bucket)
        if oss.header("expect") == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        call = Call(request, oss, self._store, bucket, self._settings, struck, request_id)
        answer = await OPERATIONS[operation](call)
        if first(struck, FaultKind.LOST_ANSWER) is not None:
            drop(request)
        return answer


async def _before(struck: list[Fault]) -> None:
    slow = first(struck, FaultKind.SLOW)
    if slow is not None:
        await asyncio.sleep(slow.seconds)
    refused = first(struck, FaultKind.STATUS)
    if refused is not None:
        raise OssAnswerError(refused.code, "A fault was asked for.", status=refused.answer_status)


def error_answer(
    request: web.BaseRequest, error: OssAnswerError, request_id: str
) -> web.StreamResponse:
    """The error document; for HEAD, which has no body, in the header ``x-oss-err``."""
    body = document(
        element(
            "Error",
            text_element("Code", error.code),
            text_element("Message", error.message),
            text_element("RequestId", request_id),
            text_element("HostId", request.headers.get("Host", "")),
            *(text_element(name, value) for name, value in error.fields.items()),
            *([text_element("EC", error.error_class)] if error.error_class else []),
        )
    )
    headers = {"x-oss-request-id": request_id, "Server": "AliyunOSS", **error.headers}
    if error.error_class:
        headers["x-oss-ec"] = error.error_class
    if error.status == 304:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = XML_TYPE
    if request.method == "HEAD":
        headers["x-oss-err"] = base64.b64encode(body).decode()
        return web.Response(status=error.status, headers=headers)
    return web.Response(status=error.status, headers=headers, body=body)
