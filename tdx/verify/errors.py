"""What keeps a quote from being judged at all; a judged one gets a verdict, not an error.

The tree::

    VerificationError (a TdxError)
      CollateralFormatError     the collateral file does not parse
      RootFormatError           the root certificate does not parse
      VerifierUnavailableError  the library that judges is not installed
"""

from __future__ import annotations

from tdx.errors import TdxError


class VerificationError(TdxError):
    """A quote could not be judged."""


class CollateralFormatError(VerificationError):
    """The collateral is not what ``dcap_qvl.QuoteCollateralV3`` takes."""

    def __init__(self, part: str, problem: str) -> None:
        self.part = part
        super().__init__(
            f"collateral, {part}: {problem[:200]}",
            hint="expected is the JSON of a PCCS client: tcb_info, qe_identity, CRLs and chains",
        )


class RootFormatError(VerificationError):
    """The root certificate is neither PEM nor DER."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"root certificate: {problem[:200]}", hint="expected is PEM or DER")


class VerifierUnavailableError(VerificationError):
    """``dcap-qvl`` cannot be imported."""

    def __init__(self) -> None:
        super().__init__(
            "verifying: the package dcap-qvl is not installed",
            hint="pip install 'confidential-guest[verify]'",
        )
