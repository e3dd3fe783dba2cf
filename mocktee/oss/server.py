"""The server as a whole: state directory, listening socket, and the handle that tests steer it by.

State directory: ``oss.json`` (optional; ``region``, ``buckets``, ``access_keys``) is read,
``control-token`` is written, and ``objects/`` holds bodies. The index is in memory, so bodies of an
earlier run are removed at start.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import secrets
import shutil
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from mocktee.oss.authentication import AccessKey, Authenticator
from mocktee.oss.call import MIN_PART_BYTES, ServerSettings
from mocktee.oss.control import ControlInterface
from mocktee.oss.errors import MockOssSettingsError
from mocktee.oss.faults import FaultSwitch
from mocktee.oss.metadata import stored_headers
from mocktee.oss.objects import ObjectKind, ObjectStore, StoredObject
from mocktee.oss.receiving import BodyFile
from mocktee.oss.service import OssService

DEFAULT_REGION: Final = "cn-hangzhou"
READ_BUFFER_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 16 << 10  # a 1023-byte key is 3069 bytes once encoded
CLOSE_SECONDS: Final = 2.0


class MockOss:
    """A running server. Made by :meth:`start`, which also stops it."""

    def __init__(
        self,
        state: Path,
        *,
        region: str,
        clock: Callable[[], float],
        min_part_bytes: int,
        fast_etags: bool,
    ) -> None:
        self.region = region
        self.port = 0
        self.endpoint = ""
        self.faults = FaultSwitch()
        self.control_token = secrets.token_hex(16)
        self._clock = clock
        self._authenticator = Authenticator(region, clock)
        self._store = ObjectStore(state / "objects")
        settings = ServerSettings(region, clock, min_part_bytes, fast_etags)
        self.service = OssService(self._store, self._authenticator, self.faults, settings)
        self.service.control = ControlInterface(self, self.control_token).handle

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        state: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        region: str | None = None,
        clock: Callable[[], float] = time.time,
        min_part_bytes: int = MIN_PART_BYTES,
        fast_etags: bool = False,
    ) -> AsyncIterator[MockOss]:
        """Listen on ``host`` (loopback only) until the block ends; port 0 takes a free one.

        Raises :class:`MockOssSettingsError` for an unusable state directory or address. On exit,
        cancelled or not, requests in progress get two seconds and are then dropped.
        """
        if not ipaddress.ip_address(host).is_loopback:
            raise MockOssSettingsError(host, "not a loopback address")
        seed = await asyncio.to_thread(_prepare, state)
        chosen = region or str(seed.get("region", DEFAULT_REGION))
        server = cls(
            state,
            region=chosen,
            clock=clock,
            min_part_bytes=min_part_bytes,
            fast_etags=fast_etags,
        )
        server._seed(seed)
        await asyncio.to_thread(_write_token, state, server.control_token)
        runner = web.ServerRunner(
            web.Server(
                server.service.handle,
                access_log=None,
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_LINE_BYTES,
            ),
            shutdown_timeout=CLOSE_SECONDS,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
            server.port = runner.addresses[0][1]
            shown = f"[{host}]" if ":" in host else host
            server.endpoint = f"{'https' if tls else 'http'}://{shown}:{server.port}"
            yield server
        finally:
            await runner.cleanup()

    @property
    def counters(self) -> Counter[str]:
        """Requests per operation name, and ``error:CODE`` per error answered."""
        return self.service.counters

    def add_bucket(self, name: str) -> None:
        """Raises :class:`MockOssSettingsError` for a name OSS would refuse, and for ``mock``."""
        self._store.add_bucket(name, self._clock())

    def add_key(self, key_id: str, secret: str, token: str | None = None) -> None:
        """``token`` makes the pair a temporary one that is only good together with it."""
        self.add_access_key(AccessKey(key_id, secret, token))

    def add_access_key(self, key: AccessKey) -> None:
        self._authenticator.add(key)

    def remove_key(self, key_id: str) -> None:
        self._authenticator.remove(key_id)

    def put(
        self, bucket: str, key: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Store a normal object past all checks. Blocks: for small data in tests and seeds."""
        found = self._store.bucket(bucket)
        with BodyFile(self._store.new_body()) as body:
            body.add([data])
            digest = body.digest()
            self._store.replace(
                found,
                StoredObject(
                    key,
                    body.keep(),
                    digest.size,
                    digest.etag,
                    digest.crc64,
                    self._clock(),
                    ObjectKind.NORMAL,
                    stored_headers(
                        {name.lower(): value for name, value in (headers or {}).items()}
                    ),
                ),
            )

    def get(self, bucket: str, key: str) -> bytes:
        """Content of an object. Raises :class:`OssAnswerError` (NoSuchBucket, NoSuchKey)."""
        stored = self._store.bucket(bucket).find(key)
        with stored.body.open("rb") as file:
            return file.read(stored.size)

    def stored(self, bucket: str, key: str) -> StoredObject:
        """What the index says of an object. Raises as :meth:`get`."""
        return self._store.bucket(bucket).find(key)

    def delete(self, bucket: str, key: str) -> None:
        self._store.delete(self._store.bucket(bucket), key)

    def keys(self, bucket: str) -> list[str]:
        return list(self._store.bucket(bucket).ordered)

    def open_uploads(self, bucket: str) -> list[tuple[str, str]]:
        """Key and upload id of every multipart upload that was neither completed nor aborted."""
        uploads = self._store.bucket(bucket).uploads.values()
        return sorted((upload.key, upload.upload_id) for upload in uploads)

    def state(self) -> dict[str, object]:
        """What ``GET /mock/state`` shows."""
        return {
            "region": self.region,
            "requests": dict(self.counters),
            "faults": self.faults.active(),
            "buckets": {
                bucket.name: {
                    "objects": {key: found.size for key, found in sorted(bucket.objects.items())},
                    "open_uploads": self.open_uploads(bucket.name),
                }
                for bucket in self._store.buckets()
            },
        }

    def _seed(self, seed: Mapping[str, object]) -> None:
        buckets, keys = seed.get("buckets", []), seed.get("access_keys", [])
        if not isinstance(buckets, list) or not isinstance(keys, list):
            raise MockOssSettingsError("oss.json", "buckets and access_keys must be lists")
        for name in buckets:
            self.add_bucket(str(name))
        for key in keys:
            if not isinstance(key, dict) or not {"id", "secret"} <= key.keys() <= {
                "id",
                "secret",
                "token",
            }:
                raise MockOssSettingsError(
                    "oss.json", "an access key is not an object with id, secret and maybe token"
                )
            self.add_key(key["id"], key["secret"], key.get("token"))


def _prepare(state: Path) -> dict[str, object]:
    """An empty ``objects`` directory and what ``oss.json`` says."""
    objects = state / "objects"
    try:
        if objects.is_dir():
            shutil.rmtree(objects)
        objects.mkdir(parents=True, mode=0o700)
        text = (state / "oss.json").read_text()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise MockOssSettingsError(str(state), f"state directory unusable: {error}") from error
    try:
        seed = json.loads(text)
    except ValueError as error:
        raise MockOssSettingsError("oss.json", "not JSON") from error
    if not isinstance(seed, dict) or not seed.keys() <= {"region", "buckets", "access_keys"}:
        raise MockOssSettingsError(
            "oss.json", "unknown members", hint="known: region, buckets, access_keys"
        )
    return seed


def _write_token(state: Path, token: str) -> None:
    path = state / "control-token"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(token)
