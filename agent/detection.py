"""Which TEE this machine is. Only Intel TDX is served; everything else is a clear no."""

from __future__ import annotations

from typing import Final

from agent.errors import TeeAbsentError
from tdx.errors import TsmError
from tdx.tsm import TsmFilesystem
from tdx.tsm_report import PROVIDER_TDX, read_provider

ABSENT_HINT: Final = "this build has no other TEE, and no `sample` TEE for machines without one"


def require_tdx(tsm: TsmFilesystem) -> None:
    """Raises :class:`~agent.errors.TeeAbsentError` unless the TSM provider is TDX's. Blocks.

    ``/dev/tdx_guest`` or an empty report directory prove nothing; the provider of a real entry
    does. The entry is removed again.
    """
    try:
        provider = read_provider(tsm)
    except TsmError as error:
        hint = f"{error.hint}; {ABSENT_HINT}" if error.hint else ABSENT_HINT
        raise TeeAbsentError(f"got: {error.problem}", hint=hint) from error
    if provider != PROVIDER_TDX:
        raise TeeAbsentError(f"got provider {provider[:64]!r}", hint=ABSENT_HINT)
