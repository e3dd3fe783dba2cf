"""Why a KBS refuses this guest, or would: findings from evidence and what belongs to it. No I/O.

A :class:`Bundle` is the raw material, a :class:`Case` the material read, :func:`examine` the rules.
:mod:`explain.boot_measurements` computes the values an operator registers. Decides nothing: the
KBS does.
"""

from __future__ import annotations

from explain.boot_measurements import BootFiles, BootReference, boot_reference
from explain.bundle import Bundle, Part
from explain.case import Case, Manifest, read_case
from explain.errors import (
    BootMeasurementError,
    BundleError,
    ExplainError,
    ReferenceValuesError,
    SecretInBundleError,
)
from explain.examine import examine
from explain.finding import Code, Finding, Severity, worst
from explain.reference_values import ReferenceValues, parse_reference_values
from explain.token import claims_of_token

__all__ = [
    "BootFiles",
    "BootMeasurementError",
    "BootReference",
    "Bundle",
    "BundleError",
    "Case",
    "Code",
    "ExplainError",
    "Finding",
    "Manifest",
    "Part",
    "ReferenceValues",
    "ReferenceValuesError",
    "SecretInBundleError",
    "Severity",
    "boot_reference",
    "claims_of_token",
    "examine",
    "parse_reference_values",
    "read_case",
    "worst",
]
