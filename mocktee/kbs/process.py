"""The mock KBS as a child process: start, admin calls over HTTP, orderly end."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from mocktee.kbs.encoding import Json, b64_encode, b64u_encode, compact_json, parse_object
from mocktee.kbs.errors import ControlError, StartError

START_SECONDS: Final = 10.0
CALL_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class _Ready:
    url: str
    ca_file: Path | None
    admin_token: str


class KbsProcess:
    """A running child. Make one with :meth:`start`; use it as an async context manager."""

    def __init__(self, child: Process, lifeline: int, ready: _Ready) -> None:
        self._child = child
        self._lifeline: int | None = lifeline
        self._admin_token = ready.admin_token
        self.url = ready.url
        self.ca_file = ready.ca_file
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_trust(ready.ca_file)),
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @classmethod
    async def start(
        cls,
        state: Path,
        pki: Path,
        *,
        tls: bool = True,
        token_seconds: int = 300,
        arguments: Sequence[str] = (),
    ) -> Self:
        """Start ``python -m mocktee.kbs`` and wait until it listens.

        ``arguments`` are further flags. The child ends with this process, whatever happens to it.
        Raises :class:`StartError`.
        """
        reading, lifeline = os.pipe()
        try:
            child = await _spawn(state, pki, reading, _flags(tls, token_seconds, arguments))
        except BaseException:  # cleaned up and passed on, cancellation included
            os.close(lifeline)
            raise
        finally:
            os.close(reading)
        try:
            return cls(child, lifeline, await _await_ready(child))
        except BaseException:  # cleaned up and passed on, cancellation included
            os.close(lifeline)
            await _end(child)
            raise

    @property
    def pid(self) -> int:
        """Process identifier of the child."""
        return self._child.pid

    async def put_resource(self, path: str, content: bytes) -> None:
        """Store a secret under ``repository/type/tag``."""
        await self._call("POST", f"/kbs/v0/resource/{path}", content)

    async def delete_resource(self, path: str) -> None:
        """Remove a secret."""
        await self._call("DELETE", f"/kbs/v0/resource/{path}")

    async def set_resource_policy(self, text: str) -> None:
        """Replace the resource policy by a Rego text."""
        body = compact_json({"policy": b64u_encode(text.encode())})
        await self._call("POST", "/kbs/v0/resource-policy", body)

    async def set_reference_values(self, **values: Sequence[str]) -> None:
        """Register good values, hex but for ``tcb_status``; an empty list ends the comparison."""
        payload: Json = {name: list(good) for name, good in values.items()}
        message: Json = {
            "version": "0.1.0",
            "type": "sample",
            "payload": b64_encode(compact_json(payload)),
        }
        await self._call("POST", "/kbs/v0/reference-value", compact_json(message))

    async def add_fault(self, **form: Json) -> None:
        """Set a fault switch; the members are those of ``mocktee.kbs.faults``."""
        await self._call("POST", "/mock/faults", compact_json(form))

    async def clear_faults(self) -> None:
        """Forget all pending faults."""
        await self._call("DELETE", "/mock/faults")

    async def state(self) -> Mapping[str, Json]:
        """Return the counters (GET /mock/state)."""
        return parse_object(await self._call("GET", "/mock/state"))

    async def aclose(self) -> None:
        """End the child with SIGTERM, and with SIGKILL after five seconds. Idempotent."""
        lifeline, self._lifeline = self._lifeline, None
        await self._session.close()
        if lifeline is not None:
            os.close(lifeline)
            await _end(self._child)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {self._admin_token}"}
        async with self._session.request(
            method, self.url + path, data=body, headers=headers, allow_redirects=False
        ) as response:
            content = await response.read()
            if response.status != 200:
                text = content.decode(errors="replace")
                raise ControlError(f"{method} {path}", response.status, text)
            return content


def _flags(tls: bool, token_seconds: int, arguments: Sequence[str]) -> list[str]:
    flags = ["--listen", "127.0.0.1:0", "--token-seconds", str(token_seconds), *arguments]
    return flags if tls else [*flags, "--no-tls"]


async def _spawn(state: Path, pki: Path, lifeline: int, flags: Sequence[str]) -> Process:
    paths = ("--state", str(state.resolve()), "--pki", str(pki.resolve()))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mocktee.kbs", *paths, "--lifeline-fd", str(lifeline), *flags),
        stdout=PIPE,
        cwd=_ROOT,
        pass_fds=(lifeline,),
    )


async def _await_ready(child: Process) -> _Ready:
    if child.stdout is None:
        raise StartError("no standard output")
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await child.stdout.readline()
    except TimeoutError as error:
        raise StartError(f"nothing within {START_SECONDS} s") from error
    try:
        document = json.loads(line)
        ca = document["ca"]
        token = Path(document["admin_token"]).read_text()
        return _Ready(document["url"], None if ca is None else Path(ca), token)
    except (ValueError, KeyError, TypeError) as error:
        raise StartError(f"{line[:200]!r}") from error


async def _end(child: Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    return True if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
