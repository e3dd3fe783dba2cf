"""Which TEE this machine is: Intel TDX, or `sample` where that is allowed and nothing is found.

The reference's order of detection is tdx, sgx, aztdxvtpm, azsnpvtpm, snp, csv, cca, se, tpm, and
``sample`` where none is found. Here everything after tdx is a clear no, and ``sample`` never
happens by itself. Source: guest-components ``attester/src/lib.rs``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.errors import TeeAbsentError
from secrecy.journal import get_logger
from tdx.errors import TsmError, errno_text
from tdx.guest_device import DEVICE_PATHS, find_guest_device
from tdx.tsm import TsmFilesystem
from tdx.tsm_report import PROVIDER_TDX, read_provider

log = get_logger("agent")

ABSENT_HINT: Final = (
    "this build has no other TEE; tee.allow_sample is for trying things out without one"
)
# Devices that the kernel shows in guests of other kinds, in the order of detection. SGX, vTPMs and
# plain TPMs are not looked for; CCA shows itself as the provider of configfs-tsm.
OTHER_DEVICES: Final = (("snp", Path("/dev/sev-guest")), ("csv", Path("/dev/csv-guest")))
# IBM SE: Linux arch/s390 (uv.c); the file is there outside of such guests, too, and holds 0.
SE_SIGN: Final = "sys/firmware/uv/prot_virt_guest"


def accept_sample(root: Path = Path("/")) -> None:
    """Go on as TEE ``sample``, and say so loudly. Blocks.

    Raises :class:`~agent.errors.TeeAbsentError` if this is a guest of a real TEE after all: a
    guest that could prove something must not fall back to what proves nothing.
    """
    for tee, device in (*(("tdx", path) for path in DEVICE_PATHS), *OTHER_DEVICES):
        if find_guest_device([root / device.relative_to("/")]) is not None:
            raise TeeAbsentError(f"got signs of TEE {tee}: {device}", hint=ABSENT_HINT)
    if _is_se_guest(root / SE_SIGN):
        raise TeeAbsentError(f"got signs of TEE se: /{SE_SIGN}", hint=ABSENT_HINT)
    log.warning(
        "the TEE is sample, whose evidence proves nothing",
        reason="tee.allow_sample",
        hint="never give secrets to a guest like this one",
    )


def _is_se_guest(sign: Path) -> bool:
    try:
        with sign.open("rb") as file:
            return file.read(2).strip() == b"1"
    except FileNotFoundError:
        return False
    except OSError as error:
        problem = f"got /{SE_SIGN}, which cannot be read: {errno_text(error.errno or 0)}"
        raise TeeAbsentError(problem, hint=ABSENT_HINT) from error


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
