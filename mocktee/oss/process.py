"""The local OSS server as a child process: start, control calls over HTTP, orderly end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import ssl
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp

from mocktee.certs import LocalTls
from mocktee.oss.authentication import AccessKey
from mocktee.oss.control import TOKEN_HEADER
from mocktee.oss.errors import OssProcessError
from mocktee.oss.request import OssRequest
from mocktee.oss.signature import v1_presigned_path

START_SECONDS: Final = 15.0
CALL_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0
PRESIGNED_SECONDS: Final = 3600
_ROOT: Final = Path(__file__).resolve().parents[2]


class OssProcess:
    """A running server and its control interface. Made by :meth:`start` only."""

    def __init__(
        self, endpoint: str, child: Process, session: aiohttp.ClientSession, token: str
    ) -> None:
        self.endpoint = endpoint
        self._child = child
        self._session = session
        self._token = token

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        state: Path,
        *,
        tls: LocalTls | None = None,
        region: str | None = None,
        fast_etags: bool = False,
        buckets: Sequence[str] = (),
        keys: Sequence[AccessKey] = (),
    ) -> AsyncIterator[Self]:
        """Start ``python -m mocktee.oss`` and end it with the block, on every path.

        The child also ends with this process, whatever happens to it. Raises
        :class:`OssProcessError` if it is not ready in time.
        """
        await asyncio.to_thread(_write_seed, state, buckets, keys)
        reading, lifeline = os.pipe()
        try:
            try:
                flags = _flags(state, reading, tls, region)
                flags += ["--fast-etags"] if fast_etags else []
                child = await _spawn(flags, reading)
            finally:
                os.close(reading)
            try:
                endpoint = await _await_ready(child)
                token = (state / "control-token").read_text()
                trust = tls.client_context() if tls is not None else True
                async with _session(trust) as session:
                    yield cls(endpoint, child, session, token)
            finally:
                await _end(child)
        finally:
            os.close(lifeline)

    @property
    def pid(self) -> int:
        return self._child.pid

    async def add_faults(self, *faults: Mapping[str, object]) -> None:
        """Set faults; the members are those of :class:`mocktee.oss.faults.Fault`."""
        await self._call("POST", "faults", [dict(fault) for fault in faults])

    async def clear_faults(self) -> None:
        await self._call("DELETE", "faults")

    async def add_bucket(self, name: str) -> None:
        await self._call("POST", "buckets", {"name": name})

    async def add_key(self, key_id: str, secret: str, token: str | None = None) -> None:
        await self._call("POST", "keys", {"id": key_id, "secret": secret, "token": token})

    async def put_objects(self, bucket: str, contents: Mapping[str, bytes]) -> None:
        """Store normal objects past all checks, up to some 40 MB together."""
        encoded = {key: base64.b64encode(content).decode() for key, content in contents.items()}
        await self._call("POST", f"objects/{bucket}", encoded)

    async def object_bytes(self, bucket: str, key: str) -> bytes:
        return await self._call("GET", f"objects/{bucket}/{quote(key, safe='')}")

    async def stored(self, bucket: str, key: str) -> dict[str, Any]:
        """``size``, ``etag``, ``crc64``, ``type`` and ``headers`` of an object."""
        found: dict[str, Any] = json.loads(
            await self._call("GET", f"stored/{bucket}/{quote(key, safe='')}")
        )
        return found

    async def state(self) -> dict[str, Any]:
        """Request counters, active faults, and objects and open uploads of every bucket."""
        found: dict[str, Any] = json.loads(await self._call("GET", "state"))
        return found

    def presigned_url(self, key: AccessKey, bucket: str, name: str) -> str:
        """A URL by which anybody may read the object for an hour."""
        request = OssRequest("GET", bucket, name, {}, {})
        expires = int(time.time()) + PRESIGNED_SECONDS
        return self.endpoint + v1_presigned_path(key.key_id, key.secret, request, expires)

    async def _call(self, method: str, path: str, body: object = None) -> bytes:
        attempted = f"{method} /mock/{path} on the OSS server"
        try:
            async with self._session.request(
                method,
                f"{self.endpoint}/mock/{path}",
                data=None if body is None else io.BytesIO(json.dumps(body).encode()),
                headers={TOKEN_HEADER: self._token},
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OssProcessError(attempted, str(error) or "timed out") from error
        if response.status != 200:
            text = content.decode(errors="replace")
            raise OssProcessError(attempted, f"HTTP {response.status}: {text}")
        return content


def _write_seed(state: Path, buckets: Sequence[str], keys: Sequence[AccessKey]) -> None:
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    access_keys = [
        {"id": key.key_id, "secret": key.secret} | ({"token": key.token} if key.token else {})
        for key in keys
    ]
    path = state / "oss.json"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump({"buckets": list(buckets), "access_keys": access_keys}, file)


def _flags(state: Path, lifeline: int, tls: LocalTls | None, region: str | None) -> list[str]:
    flags = ["--state", str(state), "--lifeline-fd", str(lifeline)]
    if tls is not None:
        flags += ["--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)]
    if region is not None:
        flags += ["--region", region]
    return flags


async def _spawn(flags: Sequence[str], lifeline: int) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mocktee.oss", *flags),
        stdout=PIPE,
        cwd=_ROOT,
        pass_fds=(lifeline,),
    )


async def _await_ready(child: Process) -> str:
    if child.stdout is None:
        raise OssProcessError("start the OSS server", "it has no standard output")
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await child.stdout.readline()
    except TimeoutError as error:
        raise OssProcessError(
            "start the OSS server", f"no ready line within {START_SECONDS:g} s"
        ) from error
    try:
        return str(json.loads(line)["endpoint"])
    except (ValueError, KeyError, TypeError) as error:
        raise OssProcessError(
            "start the OSS server", f"expected its ready line, got {line[:200]!r}"
        ) from error


def _session(trust: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust),
        timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _end(child: Process) -> None:
    """SIGTERM, and SIGKILL when that takes too long or is not waited for."""
    if child.returncode is not None:
        return
    child.terminate()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
