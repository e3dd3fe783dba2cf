"""``BindInitData``: is this the digest that the TD was started with?

The reference serves it in its gRPC build only, for programs that hold the document themselves.
Nothing is bound by it: MRCONFIGID was fixed when the TD was started, so it can only be compared.
Source: guest-components ``attestation-agent/src/bin/grpc-aa`` and ``attester/src/tdx``.
"""

from __future__ import annotations

import asyncio
from typing import Final

from agent.initdata import NamedRegisters, require_bound
from agent.service import failing_as
from protos import attestation_agent_pb2 as aa
from tdx.errors import InitdataError
from tdx.initdata import Initdata
from ttrpc import CallContext

BIND_FAILED: Final = "[ERROR:attestation-agent] AA binding init data failed"
SIZES: Final = {32: "sha256", 48: "sha384", 64: "sha512"}  # the name is for messages only


class InitDataServicer:
    """Implements :class:`protos.tables.InitDataServicer`."""

    def __init__(self, registers: NamedRegisters | None) -> None:
        """``registers`` is None on a TEE that has none; any digest is accepted there, as in the
        reference, and means nothing."""
        self._registers = registers

    async def bind_init_data(
        self, request: aa.BindInitDataRequest, _context: CallContext
    ) -> aa.BindInitDataResponse:
        registers = self._registers
        if registers is not None:
            with failing_as(BIND_FAILED):
                initdata = _digest(request.Digest)
                await asyncio.to_thread(require_bound, initdata, registers)
        return aa.BindInitDataResponse()


def _digest(value: bytes) -> Initdata:
    """Take a digest. The reference fills up or cuts any length, so that none would do as well."""
    algorithm = SIZES.get(len(value))
    if algorithm is None:
        raise InitdataError(f"expected a digest of 32, 48 or 64 bytes, got {len(value)}")
    return Initdata(algorithm, value)
