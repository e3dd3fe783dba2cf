"""A mock Key Broker Service that judges in earnest (KBS protocol 0.1.0 to 0.4.0).

It verifies quotes under the mock root with an independent verifier, replays event logs, binds nonce
and TEE key, evaluates Rego policies and encrypts resources as Trustee does, with small codecs of
its own. Beyond Trustee it tells the reason of a refusal and has fault switches and counters. It can
pass for each generation of servers (:mod:`mocktee.kbs.era`), and trust the tokens of another KBS.

Absent: devices other than ``sampledevice``, trusted keys as JWK sets, plugins other than
``resource``, and storage that outlives the process.
"""

from __future__ import annotations

from mocktee.kbs.process import KbsProcess
from mocktee.kbs.rego import shipped_policy
from mocktee.kbs.server import KbsOptions, MockKbs

__all__ = ["KbsOptions", "KbsProcess", "MockKbs", "shipped_policy"]
