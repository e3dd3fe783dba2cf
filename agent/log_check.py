"""Does the log of this boot explain the registers? Asked at start, so that people learn early."""

from __future__ import annotations

from pathlib import Path

from agent.eventlog import Registers
from tdx.ccel import parse_ccel, read_ccel
from tdx.eventlog import parse_events
from tdx.replay import REGISTERS, Replay, replay, rtmr_of


def first_unexplained(records: bytes, registers: Registers, ccel_path: Path) -> int | None:
    """Return the first RTMR (0 to 3) that boot log and own records do not replay to, or None.

    Without a boot log only RTMR3 can be judged. Blocks. Raises :class:`~tdx.errors.TdxError`
    when a log does not parse or something cannot be read.
    """
    boot = read_ccel(ccel_path)
    state = Replay() if boot is None else replay(parse_ccel(boot).events)
    for event in parse_events(records):
        state.apply(event)
    judged = REGISTERS if boot is not None else REGISTERS[-1:]
    for register in judged:
        if registers.read_rtmr(rtmr_of(register)) != state.value(register):
            return rtmr_of(register)
    return None
