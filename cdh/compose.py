"""Putting a hub together from its configuration: the one place that knows concrete classes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from cdh.brokers import Broker, open_brokers, same_process
from cdh.config import CdhConfig
from cdh.credentials import CredentialFiles
from cdh.hook_reports import HookReports, hook_reports_table
from cdh.hub import ConfidentialDataHub, MountSettings
from cdh.mounts.child import COMMAND
from cdh.mounts.supervisor import MountSupervisor
from cdh.receipting import RecordedHub, RecordedResources
from cdh.sealed.keys import SigningKeys
from cdh.sealed.signature import SignatureVerifier
from cdh.sealed.unseal import Unsealer
from cdh.secret_policy import AllowedResources
from cdh.service import hub_tables
from cdh.status import HubStatusServicer
from kbs import SessionSource
from kms import KmsDirectory
from protos.tables import hub_status_table
from receipts import NO_RECEIPTS, ReceiptSink
from secrecy.journal import get_logger
from ttrpc import ServiceTable

log = get_logger("cdh")
Work = Callable[[], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A composed hub. ``background`` goes beside it: run it in a task, cancel it to stop."""

    hub: ConfidentialDataHub
    tables: list[ServiceTable]
    background: Work
    mounts: MountSupervisor
    brokers: tuple[Broker, ...] = ()


@asynccontextmanager
async def open_mounts(config: CdhConfig) -> AsyncIterator[MountSupervisor]:
    """Be ready to mount; at the end remove every mount. Somebody has to ``run`` it meanwhile.

    On its own, because mounts outlive a hub that is opened again.
    """
    mounts = MountSupervisor(command=(*COMMAND, "--log-level", config.mounts.log_level))
    try:
        yield mounts
    finally:
        await mounts.close()


@asynccontextmanager
async def open_hub(
    config: CdhConfig,
    sessions: SessionSource | None = None,
    sessions_by_url: Mapping[str, SessionSource] | None = None,
    *,
    mounts: MountSupervisor | None = None,
    receipts: ReceiptSink = NO_RECEIPTS,
) -> AsyncIterator[RunningHub]:
    """Compose a hub; at the end close its connections.

    ``sessions`` is the agent in the same process, ``sessions_by_url`` the same for each of its key
    brokers; without them the agent's socket is asked. Without ``mounts`` the hub has its own,
    removed at the end. What is given leaves ``receipts``. Nothing here talks to the agent or the
    key broker: that happens with the first request, and in the background for credentials that
    are wanted as files. Raises
    :class:`~cdh.errors.CdhError`, ``kbs.KbsError`` or :class:`~lifecycle.LifecycleError` for a
    configuration that cannot work.
    """
    config.check()
    if config.skip_sealed_secret_verification:
        log.warning(
            "signatures of sealed secrets are not checked",
            reason="skip_sealed_secret_verification",
            hint="whoever can reach the guest's inputs can make it fetch other resources",
        )
    ca_pem = await asyncio.to_thread(config.mounts.ca_pem)
    kms = KmsDirectory(await asyncio.to_thread(config.kms.places))
    async with AsyncExitStack() as stack:
        agent = None if sessions is None else same_process(sessions, sessions_by_url or {})
        opened = await open_brokers(config, agent, stack)
        policy = config.policy()
        resources = AllowedResources(opened.source, policy)
        verifier = (
            None
            if config.skip_sealed_secret_verification
            else SignatureVerifier(SigningKeys(opened.source, policy=policy))
        )
        # Without receipts nothing of theirs is on the way of a call.
        kept = receipts is not NO_RECEIPTS
        recorded = RecordedResources(resources, receipts) if kept else resources
        works: list[Work] = [CredentialFiles(config.credentials, recorded).run]
        if mounts is None:
            mounts = await stack.enter_async_context(open_mounts(config))
            works.append(mounts.run)
        unsealer = Unsealer(recorded, verifier, kms, policy)
        settings = MountSettings(config.mounts.policy(), ca_pem, config.mounts.memory_mib << 20)
        hub = (
            RecordedHub(resources, unsealer, mounts, settings, receipts)
            if kept
            else ConfidentialDataHub(resources, unsealer, mounts, settings)
        )
        reports = HookReports()
        status = HubStatusServicer(config.kbc, opened.brokers, reports, hub)
        tables = [*hub_tables(hub), hub_status_table(status), hook_reports_table(reports)]
        yield RunningHub(hub, tables, partial(_all, works), mounts, opened.brokers)


async def _all(works: Sequence[Work]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work())
