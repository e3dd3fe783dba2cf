"""The OpenAPI document and the server agree: schemathesis asks a real process what it describes.

Behind it stand an attestation agent and a data hub on sockets, so that every documented answer can
come, those of a failing backend included. Generation is bounded and always the same.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.services.rest_process import RestProcess
from tests.services.test_rest_ttrpc import peer

Operation: TypeAlias = schemathesis.schemas.APIOperation[Any, Any, Any, Any]
ROUTES = {
    "/aa/aael", "/aa/additional-evidence", "/aa/evidence", "/aa/token",
    "/cdh/resource/{repository}/{type}/{tag}", "/info", "/livez", "/openapi.json", "/readyz",
}  # fmt: skip
WITHOUT_INPUT = {"/info", "/livez", "/openapi.json", "/readyz"}
EXAMPLES = 30  # of each route and way of asking
# A status that is not documented fails the first one, so every 5xx that can come is documented.
CHECKS: list[CheckFunction] = [
    status_code_conformance, content_type_conformance, response_schema_conformance
]  # fmt: skip


@dataclass
class Backends:
    """Agent and hub in a thread with a loop of its own: the tests here are synchronous."""

    path: Path
    started: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop, self.ended = asyncio.get_running_loop(), asyncio.Event()
        async with peer(self.path):
            self.started.set()
            await self.ended.wait()


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    served = Backends(tmp_path_factory.mktemp("backends") / "s")
    thread = threading.Thread(target=served.run)
    thread.start()
    assert served.started.wait(20)
    yield served.path
    served.loop.call_soon_threadsafe(served.ended.set)
    thread.join()


@pytest.fixture(scope="module")
def url(backends: Path) -> Iterator[str]:
    with RestProcess.start("-f", "all", backends=backends) as process:
        yield process.url


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        assert answer.headers["Content-Type"] == "application/json"
        served: dict[str, Any] = json.load(answer)
    return served


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, Operation]:
    return operations_of(document)


def operations_of(document: dict[str, Any]) -> dict[str, Operation]:
    """Raises unless every operation of the document is a valid one."""
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()
    found = {}
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        found[result.ok().path] = result.ok()
    return found


def ask(operation: Operation, mode: GenerationMode, url: str) -> None:
    """Ask many times and check every answer. ``negative`` asks as the document says not to."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def once(case: schemathesis.Case[Any]) -> None:
        case.validate_response(case.call(base_url=url), checks=CHECKS)

    once()


def test_the_document_is_valid_and_knows_every_route(operations: dict[str, Operation]) -> None:
    assert set(operations) == ROUTES


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_answers_are_as_described(operations: dict[str, Operation], url: str, path: str) -> None:
    ask(operations[path], GenerationMode.POSITIVE, url)


@pytest.mark.parametrize("path", sorted(ROUTES - WITHOUT_INPUT))
def test_answers_to_what_is_not_described_are_described(
    operations: dict[str, Operation], url: str, path: str
) -> None:
    ask(operations[path], GenerationMode.NEGATIVE, url)


@pytest.mark.parametrize(
    ("path", "mode", "change"),
    [
        pytest.param("/aa/token", GenerationMode.NEGATIVE, {"400": None}, id="status"),
        pytest.param("/info", GenerationMode.POSITIVE,
                     {"200": {"description": "", "content": {"text/plain": {}}}}, id="type"),
        pytest.param("/livez", GenerationMode.POSITIVE,
                     {"200": {"description": "", "content": {"application/json": {
                         "schema": {"type": "object", "required": ["reason"]}}}}}, id="schema"),
    ],
)  # fmt: skip
def test_a_wrong_document_is_noticed(
    document: dict[str, Any], url: str, path: str, mode: GenerationMode, change: dict[str, Any]
) -> None:
    wrong = copy.deepcopy(document)
    responses = next(iter(wrong["paths"][path].values()))["responses"]
    for status, response in change.items():
        responses.pop(status)
        if response is not None:
            responses[status] = response
    with pytest.raises(FailureGroup):
        ask(operations_of(wrong)[path], mode, url)
