"""The agent's sessions: a keeper of its own for every address of every configured key broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from agent.config import KbsConfig, TokenConfigs
from agent.receipting import with_receipts
from kbs import (
    AttestedSession,
    EvidenceSource,
    HoldOff,
    HoldOffPolicy,
    InitData,
    KbsClient,
    KbsError,
    KbsLimits,
    RetryPolicy,
    SessionKeeper,
)
from lifecycle import RouteEvents
from receipts import NO_RECEIPTS, ReceiptSink

# With another address to go to, one that does not answer is given up sooner.
STAND_BY_RETRIES = RetryPolicy(attempts=2)


@dataclass(frozen=True, slots=True)
class KbsSessions:
    """``primary`` is the first address's keeper; ``by_url`` has all, by URL without end slash."""

    primary: SessionKeeper
    by_url: Mapping[str, SessionKeeper] = field(default_factory=dict)

    @property
    def keepers(self) -> tuple[SessionKeeper, ...]:
        """Every keeper; without a key broker the one that refuses."""
        return tuple(self.by_url.values()) or (self.primary,)

    async def keep_fresh(self) -> None:
        """Renew every session in time. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for keeper in self.keepers:
                group.create_task(keeper.keep_fresh())

    def release_holds(self) -> None:
        """Try again at the next request: there is a way to the key broker now."""
        for keeper in self.by_url.values():
            keeper.release_hold(also_refusals=False)


async def open_kbs_sessions(
    config: TokenConfigs,
    evidence: EvidenceSource,
    init_data: InitData | None,
    stack: AsyncExitStack,
    receipts: ReceiptSink = NO_RECEIPTS,
) -> KbsSessions:
    """Make clients, which ``stack`` closes, and keepers, which leave receipts. Connects nowhere.

    Raises :class:`~kbs.KbsError` for an address or trust anchor that cannot be used.
    """
    routes = await stack.enter_async_context(RouteEvents())
    keepers: dict[str, SessionKeeper] = {}
    for broker in config.brokers:
        for url in broker.addresses:
            client = _client(broker, url, init_data, routes)
            await stack.enter_async_context(client)
            keepers.setdefault(client.base_url, _keeper(broker, client, evidence, receipts))
    primary = SessionKeeper(_no_kbs) if config.kbs is None else next(iter(keepers.values()))
    sessions = KbsSessions(primary, keepers)
    routes.subscribe(sessions.release_holds)
    return sessions


def _client(
    config: KbsConfig, url: str, init_data: InitData | None, routes: RouteEvents
) -> KbsClient:
    addresses = len(config.addresses)
    return KbsClient(
        url,
        config.tls,
        proxy=config.proxy,
        limits=KbsLimits(operation_seconds=KbsLimits().operation_seconds / addresses),
        retries=STAND_BY_RETRIES if addresses > 1 else None,
        key_algorithm=config.key_algorithm,
        protocol_version=config.protocol_version,
        init_data=init_data,
        network_sleep=routes.sleep,
    )


def _keeper(
    config: KbsConfig, client: KbsClient, evidence: EvidenceSource, receipts: ReceiptSink
) -> SessionKeeper:
    policy = HoldOffPolicy(config.hold_off_seconds, config.hold_off_max_seconds)
    return SessionKeeper(
        with_receipts(partial(client.handshake, evidence), receipts, client.base_url),
        hold_off=HoldOff(policy),
        start_spread_seconds=config.start_spread_seconds,
    )


async def _no_kbs() -> AttestedSession:
    raise KbsError(
        "no KBS is configured",
        attempted="attesting",
        hint="set token_configs.kbs.url, or agent.aa_kbc_params=cc_kbc::URL",
    )
