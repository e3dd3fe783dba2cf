"""Judging a quote with a given root and collateral: the result is a verdict, never a boolean.

Gets nothing from the network and keeps nothing. ``dcap-qvl`` does the DCAP part; what it leaves
out is checked here.
"""

from __future__ import annotations

from tdx.verify.collateral import Collateral, parse_collateral, parse_root
from tdx.verify.errors import VerificationError
from tdx.verify.policy import Expectations, Policy
from tdx.verify.verdict import Check, CheckName, State, TcbLevel, Verdict
from tdx.verify.verifier import Trust, verify_quote

__all__ = [
    "Check",
    "CheckName",
    "Collateral",
    "Expectations",
    "Policy",
    "State",
    "TcbLevel",
    "Trust",
    "Verdict",
    "VerificationError",
    "parse_collateral",
    "parse_root",
    "verify_quote",
]
