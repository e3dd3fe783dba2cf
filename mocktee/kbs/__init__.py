"""A mock Key Broker Service that judges in earnest (KBS protocol 0.4.0).

It verifies quotes under the mock root with an independent verifier, replays event logs, binds nonce
and TEE key, evaluates Rego policies and encrypts resources as Trustee does, with small codecs of
its own. Beyond Trustee it tells the reason of a refusal and has fault switches and counters.

Absent: protocols other than 0.4.0, device evidence, key kinds RSA1_5 and ML-KEM, tokens of other
signers, plugins other than ``resource``, and storage that outlives the process.
"""

from __future__ import annotations

from mocktee.kbs.process import KbsProcess
from mocktee.kbs.rego import shipped_policy
from mocktee.kbs.server import KbsOptions, MockKbs

__all__ = ["KbsOptions", "KbsProcess", "MockKbs", "shipped_policy"]
