"""What the one who verifies accepts, and what he expects of this one quote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tdx.report_data import ReportData
from tdx.verify.verdict import TcbLevel

REGISTER_BYTES: Final = 48
# Registers of a quote body that can be expected to have a value, by their stable names.
REGISTERS: Final = {
    "mr_td": "mr_td",
    "mr_seam": "mr_seam",
    "mr_owner": "mr_owner",
    "mr_owner_config": "mr_owner_config",
    **{f"rt_mr{index}": f"rtmr{index}" for index in range(4)},
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Holds for every quote. The default accepts current platforms only."""

    accepted_levels: frozenset[TcbLevel] = frozenset({TcbLevel.UP_TO_DATE})
    rejected_advisories: frozenset[str] = frozenset()
    # Accepted values by stable register name; a register without an entry is not compared.
    measurements: Mapping[str, frozenset[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = self.measurements.keys() - REGISTERS.keys()
        if unknown:
            raise ValueError(f"no such registers: {', '.join(sorted(unknown))}")


@dataclass(frozen=True, slots=True)
class Expectations:
    """Holds for one quote. What is None is not checked, and the verdict says so."""

    report_data: ReportData | None = None
    mr_config_id: bytes | None = None
    event_log: bytes | None = field(default=None, repr=False)  # TCG2 records
    agent_log: str | None = field(default=None, repr=False)  # the agent's text form, for RTMR3

    def __post_init__(self) -> None:
        if self.mr_config_id is not None and len(self.mr_config_id) != REGISTER_BYTES:
            raise ValueError(f"MRCONFIGID has {len(self.mr_config_id)} bytes, not 48")
