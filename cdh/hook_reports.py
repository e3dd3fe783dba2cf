"""``cguest.v1.ContainerService``: which containers the guest hook stopped, and why.

kata-agent ignores a hook's failure, so this is where a person finds the reason. Kept in memory,
the last few only; the log has them all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from cdh.errors import bounded
from protos import cguest_pb2
from protos.tables import container_table
from secrecy.journal import get_logger
from ttrpc import CallContext, Code, ServiceTable, StatusError

log = get_logger("cdh")

KEPT: Final = 32
MAX_ID: Final = 128  # characters
MAX_SUBJECT: Final = 300
MAX_REASON: Final = 700


class HookReports:
    """The refusals reported since the start, oldest first; bounded in number and size."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._refusals: deque[cguest_pb2.ContainerRefusal] = deque(maxlen=KEPT)

    async def report_refusal(
        self, request: cguest_pb2.ReportRefusalRequest, _context: CallContext
    ) -> cguest_pb2.ReportRefusalResponse:
        if not request.container_id or not request.subject:
            raise StatusError(Code.INVALID_ARGUMENT, "container_id and subject are required")
        refusal = cguest_pb2.ContainerRefusal(
            container_id=bounded(request.container_id, MAX_ID),
            subject=bounded(request.subject, MAX_SUBJECT),
            reason=bounded(request.reason, MAX_REASON),
            refused_unix=int(self._clock()),
        )
        self._refusals.append(refusal)
        log.warning(
            "container stopped by hook",
            container=refusal.container_id,
            subject=refusal.subject,
            reason=refusal.reason,
        )
        return cguest_pb2.ReportRefusalResponse()

    def refusals(self) -> list[cguest_pb2.ContainerRefusal]:
        """Return what is kept, oldest first."""
        return list(self._refusals)


def hook_reports_table(reports: HookReports) -> ServiceTable:
    """Return the service through which the guest hook reports."""
    return container_table(reports)
