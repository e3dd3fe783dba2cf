"""``cguest.v1.HubStatusService``: where resources come from, and what was refused."""

from __future__ import annotations

from collections.abc import Sequence

from cdh.brokers import Broker
from cdh.config import OFFLINE_KBC, KbcSection
from cdh.errors import bounded
from cdh.hook_reports import HookReports
from cdh.hub import ConfidentialDataHub
from protos import cguest_pb2
from ttrpc import CallContext

MAX_ERROR = 700  # characters
NO_SOURCE = "none"


class HubStatusServicer:
    """Reads states that others keep; asks nobody."""

    def __init__(
        self,
        kbc: KbcSection,
        brokers: Sequence[Broker],
        reports: HookReports | None = None,
        hub: ConfidentialDataHub | None = None,
    ) -> None:
        self._kbc = kbc
        self._brokers = tuple(brokers)
        self._reports = reports or HookReports()
        self._hub = hub

    async def get_status(
        self, _request: cguest_pb2.GetHubStatusRequest, _context: CallContext
    ) -> cguest_pb2.HubStatus:
        last = self._hub.last_unseal_failure if self._hub is not None else None
        known = bool(self._brokers) or self._kbc.name == OFFLINE_KBC
        return cguest_pb2.HubStatus(
            source=self._kbc.name if known else NO_SOURCE,
            brokers=[_message(broker) for broker in self._brokers],
            serve_stale_seconds=self._kbc.serve_stale_seconds,
            refusals=self._reports.refusals(),
            unseal_failures=0 if self._hub is None else self._hub.counts().unseal_failures,
            last_unseal_failure_unix=0 if last is None else last.at,
            last_unseal_failure="" if last is None else last.cause,
        )


def _message(broker: Broker) -> cguest_pb2.KeyBroker:
    status = broker.source.status
    return cguest_pb2.KeyBroker(
        name=broker.name,
        urls=broker.urls,
        kept_secrets=status.kept,
        stale_served=status.served,
        away_since_unix=int(status.since or 0),
        last_error=bounded(status.last_error, MAX_ERROR),
    )
