"""Deadlines nest: whoever waits outside waits longer than who works inside, so causes arrive."""

from __future__ import annotations

from agent.config import TeeConfig
from cdh.agent_client import TOKEN_SECONDS
from kbs import KbsLimits
from kbs.fetcher import FETCH_SECONDS

KATA_AGENT_SECONDS = 50.0  # its timeout for a call to the data hub


def test_deadlines_nest_from_kata_agent_to_one_request() -> None:
    limits = KbsLimits()
    chain = [
        KATA_AGENT_SECONDS,
        FETCH_SECONDS,
        TOKEN_SECONDS,
        limits.operation_seconds,
        TeeConfig().quote_seconds,
        limits.request_seconds,
    ]
    assert chain == sorted(set(chain), reverse=True)
