"""Is the quote genuine? Signature chain and collateral, judged by ``dcap-qvl`` under one root.

Nothing here looks at what the quote says. ``dcap-qvl`` also refuses TDs in debug mode and with
attributes that no production TD has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import dcap_qvl

from mocktee.kbs.errors import EvidenceRefusedError
from mocktee.kbs.quote import Quote


class CollateralSource(Protocol):
    """What the mock PKI has to offer to a verifier."""

    @property
    def root_ca_der(self) -> bytes:
        """The only root that quotes may chain to."""

    def collateral(self) -> Mapping[str, object]:
        """Collateral in the JSON form of ``dcap_qvl.QuoteCollateralV3``."""


@dataclass(frozen=True, slots=True)
class PlatformStatus:
    """What the collateral says about the platform of a genuine quote."""

    tcb_status: str
    advisory_ids: tuple[str, ...]


class QuoteAuthenticator:
    """Verifies quotes under the root of one :class:`CollateralSource`."""

    def __init__(self, source: CollateralSource, clock: Callable[[], float]) -> None:
        self._root = source.root_ca_der
        self._collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(source.collateral()))
        self._clock = clock

    def authenticate(self, quote: Quote) -> PlatformStatus:
        """Verify the whole chain now. Raises :class:`EvidenceRefusedError` with the cause."""
        try:
            report = dcap_qvl.verify_with_root_ca(
                quote.raw, self._collateral, self._root, int(self._clock())
            )
        except ValueError as error:
            cause = " ".join(str(error).removeprefix("Verification failed: ").split())
            raise EvidenceRefusedError(f"quote signature chain: {cause}") from error
        return PlatformStatus(report.status, tuple(report.advisory_ids))
