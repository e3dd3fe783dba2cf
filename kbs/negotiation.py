"""Which protocol version to speak with one KBS: configured, or found out from its refusals.

A KBS does not say what it speaks; it only refuses what it does not (trustee
``kbs/src/attestation/backend.rs``, from v0.10 on with the version it expects). So the newest
version is tried first, then the one that the refusal names, else the next lower. ``/auth`` costs
next to nothing. The two bindings that go by the number 0.1.0 part only at ``/attest``, at the
price of a second quote. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from kbs.errors import AttestationRefusedError, KbsRefusedError
from kbs.handshake import RcarWire
from kbs.older_payloads import RCAR_0_1_0_EARLY, RCAR_0_1_0_LATE, RCAR_0_1_1, RCAR_0_2_0
from kbs.payloads import RCAR_0_4_0
from kbs.problem import is_version_refusal
from secrecy.journal import get_logger

log = get_logger("kbs")


class ProtocolVersion(StrEnum):
    """What may be configured. ``0.1.0`` tries both of its bindings, ``auto`` everything."""

    AUTO = "auto"
    V0_4_0 = "0.4.0"
    V0_2_0 = "0.2.0"
    V0_1_1 = "0.1.1"
    V0_1_0 = "0.1.0"
    V0_1_0_LATE = "0.1.0-late"
    V0_1_0_EARLY = "0.1.0-early"


# Newest first. 0.3.0 was never released.
CANDIDATES: Final[Mapping[ProtocolVersion, tuple[RcarWire, ...]]] = {
    ProtocolVersion.AUTO: (
        RCAR_0_4_0,
        RCAR_0_2_0,
        RCAR_0_1_1,
        RCAR_0_1_0_LATE,
        RCAR_0_1_0_EARLY,
    ),
    ProtocolVersion.V0_4_0: (RCAR_0_4_0,),
    ProtocolVersion.V0_2_0: (RCAR_0_2_0,),
    ProtocolVersion.V0_1_1: (RCAR_0_1_1,),
    ProtocolVersion.V0_1_0: (RCAR_0_1_0_LATE, RCAR_0_1_0_EARLY),
    ProtocolVersion.V0_1_0_LATE: (RCAR_0_1_0_LATE,),
    ProtocolVersion.V0_1_0_EARLY: (RCAR_0_1_0_EARLY,),
}


def name_of(wire: RcarWire) -> str:
    """Return the name under which exactly this version can be configured."""
    return next(name.value for name, wires in CANDIDATES.items() if wires == (wire,))


class Negotiation:
    """Remembers what one KBS speaks, for as long as its client lives."""

    def __init__(self, configured: ProtocolVersion = ProtocolVersion.AUTO) -> None:
        self._candidates = CANDIDATES[configured]
        self._settled: RcarWire | None = None
        newest, oldest = self._candidates[0].version, self._candidates[-1].version
        self._spoken = newest if newest == oldest else f"{oldest} to {newest}"

    @property
    def spoken(self) -> str:
        """What this guest is willing to speak, for people."""
        return self._spoken

    @property
    def settled(self) -> RcarWire | None:
        """The version with which a handshake has succeeded."""
        return self._settled

    def settle(self, wire: RcarWire) -> None:
        """Remember a version that was accepted."""
        if wire is not self._settled:
            log.info("protocol version of the KBS found", version=name_of(wire))
        self._settled = wire

    def attempts(self) -> VersionAttempts:
        """Return the versions to try in one handshake, the remembered one first."""
        return VersionAttempts(self._candidates, self._settled)


class VersionAttempts:
    """The versions of one handshake. Each is tried once at most, so tries are bounded."""

    def __init__(self, candidates: Sequence[RcarWire], settled: RcarWire | None) -> None:
        first = candidates[0] if settled is None else settled
        self._left = [wire for wire in candidates if wire is not first]
        self._wire = first
        self._settled = settled

    @property
    def wire(self) -> RcarWire:
        """The version to speak now."""
        return self._wire

    def after_auth(self, error: KbsRefusedError) -> bool:
        """Go to another version if the refusal of ``/auth`` is about the version."""
        if not is_version_refusal(error):
            return False
        refused = self._wire.version
        self._left = [wire for wire in self._left if wire.version != refused]
        named = error.expected_version if isinstance(error, AttestationRefusedError) else None
        if named is not None:
            # It said what it wants; whatever else there is would be refused as well.
            self._left = [wire for wire in self._left if wire.version == named]
        return self._next()

    def after_attest(self, error: KbsRefusedError) -> bool:
        """Go to the other binding of the same version number, if there is one untried.

        A KBS does not say why it refuses evidence, so this may be in vain; not, though, once a
        handshake has succeeded with this binding.
        """
        if not isinstance(error, AttestationRefusedError) or self._wire is self._settled:
            return False
        self._left = [wire for wire in self._left if wire.version == self._wire.version]
        return self._next()

    def _next(self) -> bool:
        if not self._left:
            return False
        self._wire = self._left.pop(0)
        return True
