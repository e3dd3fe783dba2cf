"""A key broker that is away, on a stage of its own: it does not come back."""

from __future__ import annotations

import json

import pytest

from demo.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_key_broker_that_is_away_is_no_attestation_problem(stage: Stage) -> None:
    await stage.harness.kbs.aclose()
    done = await stage.cguest("-o", "json", "--timeout", "20", "attest", "--explain")
    assert done.code == 3
    (finding,) = json.loads(done.out)["findings"]
    assert finding["code"] == "kbs-unreachable"
    assert finding["severity"] == "outage"
    assert "no attestation problem" in finding["found"]
