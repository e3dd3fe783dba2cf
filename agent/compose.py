"""The composition root of the agent: from configuration to something that can be served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.attestation import AttestationAgent, MeasurementSettings
from agent.attester import Attester
from agent.config import AgentConfig, QuoteSourceName, TeeConfig
from agent.detection import accept_sample
from agent.devices import open_devices
from agent.errors import TeeAbsentError
from agent.eventlog import EventLogWriter
from agent.init_data_service import InitDataServicer
from agent.initdata import configured_initdata, require_bound
from agent.kbs_evidence import AgentEvidence
from agent.kbs_sessions import KbsSessions, open_kbs_sessions
from agent.log_check import first_unexplained
from agent.older_doors import open_older_doors
from agent.sample import SampleAttester
from agent.service import AgentServicer, StatusServicer
from agent.service_tokens import ServiceTokens
from agent.tdx_attester import TdxAttester
from agent.tee import TdRegisters, TeeInterfaces, find_tee, is_absent
from agent.tokens import TokenIssuer
from kbs import AttestationServiceClient, InitData, SessionKeeper
from protos.tables import (
    attestation_agent_table,
    attestation_status_table,
    grpc_attestation_agent_table,
)
from receipts import NO_RECEIPTS, ReceiptSink
from secrecy.journal import get_logger
from serving.doors import Door, DoorAddress, GrpcDoor, parse_door
from tdx import QuoteReader, TdxError
from tdx.initdata import Initdata
from tdx.report_registers import EXTEND_HINT
from ttrpc import ServiceTable

log = get_logger("agent")


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """An agent with its sessions, its service tables and the doors that they belong behind.

    :meth:`background` runs until cancelled; start it in the task group that serves the doors.
    """

    agent: AttestationAgent
    kbs_sessions: KbsSessions
    tokens: TokenIssuer
    tables: list[ServiceTable]
    doors: tuple[Door, ...]

    @property
    def sessions(self) -> SessionKeeper:
        """The session with the first key broker."""
        return self.kbs_sessions.primary

    async def background(self) -> None:
        """Renew sessions before they end."""
        await self.kbs_sessions.keep_fresh()


@asynccontextmanager
async def open_agent(
    config: AgentConfig,
    *,
    initdata: Initdata | None = None,
    receipts: ReceiptSink = NO_RECEIPTS,
) -> AsyncIterator[RunningAgent]:
    """Build the agent. Leaving closes the event log and joins the quote thread.

    ``initdata`` wins over the configured one; handshakes leave ``receipts``. Needs the TEE, but
    neither KBS nor network. Raises :class:`~agent.errors.AgentError`, :class:`~tdx.TdxError` or
    :class:`~kbs.KbsError` when something is configured or found that it cannot work with.
    """
    async with AsyncExitStack() as stack:
        tee = await asyncio.to_thread(_find_tee, config.tee)
        if tee is None:
            initdata = await asyncio.to_thread(_unbound_initdata, config, initdata)
            attester: Attester = SampleAttester()
            measurement = _no_measurement(config)
        else:
            initdata = await asyncio.to_thread(_bound_initdata, config, initdata, tee.registers)
            attester, measurement = await _open_tdx(config, tee, stack)
        agent = AttestationAgent(
            attester,
            measurement,
            devices=open_devices(config.tee.devices),
            label_caller_data=config.tee.label_caller_data,
        )
        document = initdata.document if initdata is not None else None
        init_data = InitData(document.decode()) if document is not None else None
        sessions = await open_kbs_sessions(
            config.token_configs, AgentEvidence(agent), init_data, stack, receipts
        )
        service = await _service_tokens(config, agent, stack)
        tokens = TokenIssuer(sessions.primary, sessions.by_url, service)
        registers = None if tee is None else tee.registers
        address = parse_door(config.socket)
        tables = [
            _agent_table(address, AgentServicer(agent, tokens), registers),
            _status_table(config, agent, sessions),
        ]
        older = await open_older_doors(config, sessions, stack)
        yield RunningAgent(agent, sessions, tokens, tables, (Door(address, tables), *older))


def _find_tee(settings: TeeConfig) -> TeeInterfaces | None:
    """Return the interfaces of this TD. None: there is no TEE, and ``sample`` is allowed."""
    try:
        return find_tee(settings)
    except TeeAbsentError as error:
        detecting = settings.quote_source is QuoteSourceName.AUTO
        if not settings.allow_sample or not detecting or not is_absent(error):
            raise
    accept_sample()
    return None


async def _open_tdx(
    config: AgentConfig, tee: TeeInterfaces, stack: AsyncExitStack
) -> tuple[TdxAttester, MeasurementSettings]:
    quotes = await stack.enter_async_context(QuoteReader(tee.quotes))
    measurement = await asyncio.to_thread(_open_measurement, config, tee)
    if measurement.writer is not None:
        stack.push_async_callback(asyncio.to_thread, measurement.writer.close)
        await asyncio.to_thread(_report_log_fit, config, measurement.writer, tee.registers)
    attester = TdxAttester(
        quotes,
        measurement.writer,
        ccel_path=Path(config.tee.ccel_path),
        quote_seconds=config.tee.quote_seconds,
    )
    return attester, measurement


def _no_measurement(config: AgentConfig) -> MeasurementSettings:
    settings = config.eventlog_config
    if settings.enable_eventlog:
        log.warning("events cannot be measured", hint="the TEE sample has no registers")
    return MeasurementSettings(settings.enable_eventlog, settings.init_pcr, None)


def _given_initdata(config: AgentConfig, given: Initdata | None) -> Initdata | None:
    place = config.tee.initdata
    return configured_initdata(place) if given is None and place is not None else given


def _unbound_initdata(config: AgentConfig, given: Initdata | None) -> Initdata | None:
    """Return the initdata of a guest that has no register to compare it with."""
    initdata = _given_initdata(config, given)
    if initdata is not None:
        log.warning("initdata is bound to nothing", hint="the TEE sample has no registers")
    return initdata


def _bound_initdata(
    config: AgentConfig, given: Initdata | None, registers: TdRegisters
) -> Initdata | None:
    """Return the initdata of this TD, compared with MRCONFIGID. None: nothing to compare."""
    if given is None and config.tee.initdata is None:
        return None
    initdata = _given_initdata(config, given)
    require_bound(initdata, registers)
    return initdata


def _open_measurement(config: AgentConfig, tee: TeeInterfaces) -> MeasurementSettings:
    settings = config.eventlog_config
    writer = None
    if settings.enable_eventlog:
        if tee.extendable:
            writer = EventLogWriter(Path(settings.directory), tee.registers)
            writer.open()
        else:
            log.warning("events cannot be measured", hint=EXTEND_HINT)
    return MeasurementSettings(settings.enable_eventlog, settings.init_pcr, writer)


def _report_log_fit(config: AgentConfig, writer: EventLogWriter, registers: TdRegisters) -> None:
    try:
        rtmr = first_unexplained(writer.records(), registers, Path(config.tee.ccel_path))
    except TdxError as error:
        # Said again, as an error, to everyone who asks for evidence.
        log.warning("event log cannot be compared with the registers", cause=error)
        return
    if rtmr is not None:
        log.warning(
            "event log does not replay to a register; a KBS that replays it will refuse",
            rtmr=rtmr,
            hint="another program extended the register, or the log directory was cleared",
        )


async def _service_tokens(
    config: AgentConfig, agent: AttestationAgent, stack: AsyncExitStack
) -> ServiceTokens | None:
    service = config.token_configs.coco_as
    if service is None:
        return None
    client = await stack.enter_async_context(AttestationServiceClient(service.url))
    return ServiceTokens(agent, client)


def _agent_table(
    address: DoorAddress, servicer: AgentServicer, registers: TdRegisters | None
) -> ServiceTable:
    """Return the table for this kind of door; the reference's two builds differ in one method."""
    if isinstance(address, GrpcDoor):
        return grpc_attestation_agent_table(servicer, InitDataServicer(registers))
    return attestation_agent_table(servicer)


def _status_table(
    config: AgentConfig, agent: AttestationAgent, sessions: KbsSessions
) -> ServiceTable:
    kbs = config.token_configs.kbs
    status = StatusServicer(agent, sessions.primary, kbs.url if kbs else "")
    return attestation_status_table(status)
