"""The attestation agent without a transport: evidence and measured events of this guest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from agent.attester import Attester, DeviceAttester
from agent.caller_data import labelled
from agent.errors import RuntimeDataError
from agent.eventlog import EventLogWriter
from agent.measured_event import MeasuredEvent, cc_register_of
from tdx.report_data import REPORT_DATA_BYTES


class ExtendResult(IntEnum):
    """Outcome of an extension, numbered as in ``RuntimeMeasurementResult``."""

    OK = 0
    NOT_SUPPORTED = 1
    NOT_ENABLED = 2


@dataclass(frozen=True, slots=True)
class MeasurementSettings:
    """Whether events are measured, and where to."""

    enabled: bool
    default_pcr: int
    writer: EventLogWriter | None  # None: this kernel has no registers to extend


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """What this agent has done so far."""

    tee: str
    quotes_taken: int
    event_log_enabled: bool
    measured_events: int


class AttestationAgent:
    """Makes evidence and extends registers. Keeps no session and no secret."""

    def __init__(
        self,
        attester: Attester,
        measurement: MeasurementSettings,
        *,
        devices: Sequence[DeviceAttester] = (),
        label_caller_data: bool = False,
    ) -> None:
        self._attester = attester
        self._measurement = measurement
        self._devices = {device.name: device for device in devices}
        self._label_caller_data = label_caller_data

    def tee_type(self) -> str:
        """Return the TEE's name in the KBS protocol."""
        return self._attester.tee

    def device_names(self) -> list[str]:
        """Return the names of further devices that attest."""
        return list(self._devices)

    async def evidence(self, runtime_data: bytes, *, timeout_s: float | None = None) -> bytes:
        """Return evidence JSON bound to at most 64 bytes, for this agent's own use.

        Not hashed here: the caller hashes. Waits at most ``timeout_s``, and never longer than
        the TEE's own limit. Raises :class:`RuntimeDataError` and :class:`~tdx.errors.TdxError`.
        """
        _require_fitting(runtime_data)
        return await self._attester.evidence(runtime_data, timeout_s=timeout_s)

    async def device_evidence(self, runtime_data: bytes) -> bytes:
        """Return the devices' evidence, a JSON object by name; zero bytes without devices.

        A device that fails fails all of it: evidence without it would look like a guest that
        never had it. Raises :class:`~agent.errors.AgentError`.
        """
        _require_fitting(runtime_data)
        if not self._devices:
            return b""
        # One after the other: a second failure behind the first would have nobody to hear it.
        evidence = {
            name: msgspec.Raw(await device.evidence(runtime_data))
            for name, device in self._devices.items()
        }
        return msgspec.json.encode(evidence)

    async def evidence_for_caller(
        self,
        runtime_data: bytes,
        *,
        labelled_from: bytes | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Return evidence for data that somebody else chose; labelled if so configured.

        ``labelled_from`` is the original of data that are labelled already.
        """
        data = self._callers(runtime_data, labelled_from)
        return await self.evidence(data, timeout_s=timeout_s)

    async def device_evidence_for_caller(
        self, runtime_data: bytes, *, labelled_from: bytes | None = None
    ) -> bytes:
        """Return the devices' evidence for data that somebody else chose."""
        return await self.device_evidence(self._callers(runtime_data, labelled_from))

    def _callers(self, runtime_data: bytes, labelled_from: bytes | None) -> bytes:
        """Return what is bound. A label is believed only if it is the one we would put there."""
        _require_fitting(runtime_data)
        if not self._label_caller_data:
            return runtime_data
        if labelled_from is not None and labelled(labelled_from) == runtime_data:
            return runtime_data
        return labelled(runtime_data)

    async def extend(
        self, domain: str, operation: str, content: str, register_index: int | None = None
    ) -> ExtendResult:
        """Measure an event into the register of a PCR number (default: configured).

        The register that is logged is the one that is extended. Raises
        :class:`~agent.errors.MeasuredEventError` for fields that break the rules,
        :class:`~agent.errors.MeasurementLogError` and :class:`~tdx.errors.MeasurementError`.
        A cancelled caller does not interrupt an extension that has begun.
        """
        if not self._measurement.enabled:
            return ExtendResult.NOT_ENABLED
        writer = self._measurement.writer
        if writer is None:
            return ExtendResult.NOT_SUPPORTED
        event = MeasuredEvent.checked(domain, operation, content)
        pcr = self._measurement.default_pcr if register_index is None else register_index
        await asyncio.to_thread(writer.append, event, cc_register_of(pcr))
        return ExtendResult.OK

    def status(self) -> AgentStatus:
        """Return counters. Reads own state only: never waits for the host."""
        writer = self._measurement.writer
        return AgentStatus(
            tee=self.tee_type(),
            quotes_taken=self._attester.quotes_taken,
            event_log_enabled=self._measurement.enabled and writer is not None,
            measured_events=writer.events if writer is not None else 0,
        )


def _require_fitting(runtime_data: bytes) -> None:
    if len(runtime_data) > REPORT_DATA_BYTES:
        raise RuntimeDataError(len(runtime_data), REPORT_DATA_BYTES)
