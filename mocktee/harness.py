"""The whole mock world of one guest: mock TEE, key broker and object store, seeded and running.

Composition root of the harness. Three child processes live as long as the block of
:meth:`Harness.start`; afterwards processes, mounts and the state directory are gone, on every path.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mocktee.certs import LocalTls, provide_tls
from mocktee.configuration import GuestPaths, GuestSettings, guest_toml
from mocktee.errors import HarnessError
from mocktee.ground import claimed
from mocktee.guard import refuse_beside_real_tee
from mocktee.kbs.process import KbsProcess
from mocktee.oss.process import OssProcess
from mocktee.pki import MockPki
from mocktee.seeding import BUCKET, REGION, Seeds, example_objects, seed_key_broker
from mocktee.tsm.process import TsmProcess

DEFAULT_REST_BIND: Final = "127.0.0.1:8006"


@dataclass(frozen=True, slots=True)
class Harness:
    """A running harness. ``kbs_ca`` is None without TLS; the same authority signs for OSS."""

    state: Path
    pki: MockPki
    tsm: TsmProcess
    kbs: KbsProcess
    oss: OssProcess
    kbs_ca: Path | None
    seeds: Seeds = field(repr=False)
    bucket: str = BUCKET
    oss_region: str = REGION

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        state: Path,
        *,
        latency: float = 1.0,
        tls: bool = True,
        token_seconds: int = 300,
        fast_etags: bool = False,
        tsm_faults: Sequence[dict[str, object]] = (),
        oss_faults: Sequence[Mapping[str, object]] = (),
    ) -> AsyncIterator[Harness]:
        """Start everything below ``state``, which must not exist or be empty.

        ``latency`` is in seconds per quote (a stock kernel takes 1.0), ``token_seconds`` the life
        of attestation tokens; ``fast_etags`` saves the object store its MD5, for benches. Raises
        :class:`~mocktee.errors.RealTeeError` beside a real TEE and other
        :class:`~mocktee.errors.MockTeeError` for a process that does not become ready.
        """
        refuse_beside_real_tee([str(state)])
        async with AsyncExitStack() as stack:
            folder = await stack.enter_async_context(claimed(state))
            seeds = Seeds()
            pki, local_tls = await asyncio.to_thread(_keys, folder, tls=tls)
            tsm = await stack.enter_async_context(
                TsmProcess.start(
                    folder / "tee", folder / "pki", folder / "tsm.sock", latency=latency
                )
            )
            kbs = await stack.enter_async_context(
                await KbsProcess.start(
                    folder / "kbs", folder / "pki", tls=tls, token_seconds=token_seconds
                )
            )
            oss = await stack.enter_async_context(
                OssProcess.start(
                    folder / "oss",
                    tls=local_tls,
                    region=REGION,
                    fast_etags=fast_etags,
                    buckets=[BUCKET],
                    keys=[seeds.access_key],
                )
            )
            await seed_key_broker(kbs, seeds, (await tsm.state()).registers)
            await oss.put_objects(BUCKET, example_objects())
            if tsm_faults:
                await tsm.set_faults(tsm_faults)
            await oss.add_faults(*oss_faults)
            ca = local_tls.ca if local_tls is not None else None
            yield cls(folder, pki, tsm, kbs, oss, ca, seeds)

    # -- where things are --

    @property
    def kbs_url(self) -> str:
        return self.kbs.url

    @property
    def kbs_ca_pem(self) -> str | None:
        return None if self.kbs_ca is None else self.kbs_ca.read_text()

    @property
    def oss_endpoint(self) -> str:
        return self.oss.endpoint

    @property
    def report_root(self) -> Path:
        return self.tsm.report_root

    @property
    def measurements(self) -> Path:
        return self.tsm.measurements

    @property
    def ccel(self) -> Path:
        return self.tsm.ccel

    @property
    def access_key_id(self) -> str:
        return self.seeds.access_key.key_id

    @property
    def access_key_secret(self) -> str:
        return self.seeds.access_key.secret

    # -- steering --

    async def put_resource(self, path: str, content: bytes) -> None:
        """Store a secret of the key broker under ``repository/type/tag``."""
        await self.kbs.put_resource(path, content)

    async def set_resource_policy(self, text: str) -> None:
        """Replace the key broker's resource policy by a Rego text."""
        await self.kbs.set_resource_policy(text)

    async def set_reference_values(self, **values: Sequence[str]) -> None:
        """Replace good values by name, in hex; an empty list ends the comparison of a name."""
        await self.kbs.set_reference_values(**values)

    async def quotes_made(self) -> int:
        """How many quotes the mock TEE has made so far."""
        return (await self.tsm.state()).quotes_made

    async def put_objects(self, contents: Mapping[str, bytes]) -> None:
        """Store objects in the example bucket past all checks."""
        await self.oss.put_objects(self.bucket, contents)

    async def object_bytes(self, key: str) -> bytes:
        """Content of an object of the example bucket, as the server holds it."""
        return await self.oss.object_bytes(self.bucket, key)

    async def object_crc64(self, key: str) -> int | None:
        """CRC-64 of an object of the example bucket; None if the server knows none."""
        stored: dict[str, Any] = await self.oss.stored(self.bucket, key)
        crc: int | None = stored["crc64"]
        return crc

    async def open_uploads(self) -> list[tuple[str, str]]:
        """Key and id of every multipart upload in the example bucket that is still open."""
        found = (await self.oss.state())["buckets"][self.bucket]["open_uploads"]
        return [(key, upload_id) for key, upload_id in found]

    async def presigned_url(self, key: str) -> str:
        """A URL by which anybody may read an object of the example bucket for an hour."""
        return self.oss.presigned_url(self.seeds.access_key, self.bucket, key)

    def write_config(
        self,
        path: Path,
        run: Path,
        *,
        rest_bind: str = DEFAULT_REST_BIND,
        mount_roots: Sequence[Path] | None = None,
        log_level: str = "warning",
        cache_seconds: float = 0.0,
    ) -> GuestPaths:
        """Write a ready-made file for the guest daemon, whose sockets and logs go to ``run``.

        Mounts may be made beside the file and below ``run`` unless ``mount_roots`` says otherwise.
        """
        run.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths = GuestPaths(self.report_root, self.measurements, self.ccel, run.absolute())
        roots = [path.absolute().parent, run.absolute()] if mount_roots is None else mount_roots
        settings = GuestSettings(
            self.kbs_url, self.kbs_ca, roots, rest_bind, log_level, cache_seconds
        )
        path.write_text(guest_toml(paths, settings))
        return paths

    async def until_death(self) -> HarnessError:
        """Wait until one of the three processes ends; the error says which. Cancel to stop."""
        names = {
            "mock TEE (mocktee.tsm)": self.tsm.process.pid,
            "key broker (mocktee.kbs)": self.kbs.pid,
            "object store (mocktee.oss)": self.oss.pid,
        }
        waits = {asyncio.create_task(_until_exit(pid)): (name, pid) for name, pid in names.items()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        name, pid = waits[done.pop()]
        return HarnessError(
            f"keep the {name} running",
            f"process {pid} ended by itself",
            hint="its last words, if any, are above",
        )


def _keys(folder: Path, *, tls: bool) -> tuple[MockPki, LocalTls | None]:
    """The mock authority and, with TLS, a certificate for OSS from the key broker's authority."""
    pki = MockPki.create()
    pki.save(folder / "pki")
    return pki, provide_tls(folder / "kbs", name="oss") if tls else None


async def _until_exit(pid: int) -> None:
    """Wait for the end of a child that somebody else reaps."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def readable() -> None:
        loop.remove_reader(descriptor)
        ended.set_result(None)

    try:
        loop.add_reader(descriptor, readable)
        await ended
    finally:
        with contextlib.suppress(ValueError, OSError):
            loop.remove_reader(descriptor)
        os.close(descriptor)
