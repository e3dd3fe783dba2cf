"""What can go wrong between this process and the TDX interfaces of the kernel.

The tree, by who can help::

    TdxError
      TsmError                 the configfs-tsm report interface
        TsmUnavailableError    not there, no provider, or not permitted
        TsmProviderError       there, but of another technology
        TsmBusyError           an earlier request is in flight, here or on the host
        TsmInterruptedError    a signal ended the wait for the host
        TsmTimeoutError        the host did not answer in time
        TsmHostError           the host or the TDX module failed, or sent an empty quote
        TsmGenerationError     somebody else wrote to our entry
        TsmIoError             any other errno
      QuoteFormatError         bytes are not a TDX quote of a known form
      ReportFormatError        bytes are not a TDREPORT, or its two hashes do not hold
      CertificateFormatError   a PCK certificate of a quote does not parse
      EvidenceFormatError      a file holds no evidence in any form known here
      QuoteBindingError        a good quote that answers something else
      MeasurementError         a measurement register cannot be read or extended
        MeasurementBusyError   ... at this moment
        MeasurementsAbsentError  ... because this kernel has none
      EventLogError            bytes are not an event log of a known form
      BootLogError             the boot event log cannot be read
      InitdataError            the initdata document or digest cannot be checked
        InitdataMissingError   a document was bound at TD start and is not delivered
        InitdataMismatchError  MRCONFIGID holds another digest
          InitdataUnboundError   ... namely none: the host bound nothing
"""

from __future__ import annotations

import errno
import os

KERNEL_HINT = "in a TD, load the module tdx_guest and mount configfs on /sys/kernel/config"


def errno_text(code: int) -> str:
    """Return an errno as ``EBUSY (Device or resource busy)``."""
    return f"{errno.errorcode.get(code, str(code))} ({os.strerror(code)})"


class TdxError(Exception):
    """Base of all errors of this package.

    ``problem`` says what was attempted, on what, expected and got; ``hint`` what an operator can
    do.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.problem = message
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class TsmError(TdxError):
    """A step of the report interface failed: what was attempted, on which path, and why."""

    def __init__(self, attempted: str, path: str, problem: str, *, hint: str = "") -> None:
        self.attempted = attempted
        self.path = path
        super().__init__(f"{attempted} {path}: {problem}", hint=hint)


class TsmUnavailableError(TsmError):
    """No quote can be taken on this machine as it is configured."""


class TsmProviderError(TsmError):
    """The entry belongs to another TEE technology, so its blob would be no TDX quote."""

    def __init__(self, path: str, *, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got[:64]
        super().__init__(
            "read",
            path,
            f"expected provider {expected!r}, got {self.got!r}",
            hint="this agent serves Intel TDX only",
        )


class TsmBusyError(TsmError):
    """An earlier quote request is still in flight. Worth another try after a pause."""


class TsmInterruptedError(TsmError):
    """A signal interrupted the kernel's wait; its buffer may stay in flight for a while."""


class TsmTimeoutError(TsmError):
    """The host's quote generation service did not answer in time."""


class TsmHostError(TsmError):
    """The host, or the TDX module, reported a failure instead of a quote."""


class TsmGenerationError(TsmError):
    """The entry's write counter is not where our own writes put it."""

    def __init__(self, path: str, *, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got[:32]
        super().__init__(
            "read",
            path,
            f"expected generation {expected}, got {self.got!r}",
            hint="another root process writes to entries below tsm/report",
        )


class TsmIoError(TsmError):
    """An errno that has no meaning of its own here."""


class QuoteFormatError(TdxError):
    """The bytes are not a quote this parser knows. ``offset`` counts from the quote's start."""

    def __init__(self, field: str, offset: int, *, expected: str, got: str) -> None:
        self.field = field
        self.offset = offset
        self.expected = expected
        self.got = got[:64]
        super().__init__(
            f"TDX quote, {field} at byte {offset}: expected {expected}, got {self.got}"
        )


class ReportFormatError(TdxError):
    """The bytes are not a TDREPORT. ``offset`` counts from its start."""

    def __init__(self, field: str, offset: int, *, expected: str, got: str) -> None:
        self.field = field
        self.offset = offset
        self.expected = expected
        self.got = got[:64]
        super().__init__(f"TDREPORT, {field} at byte {offset}: expected {expected}, got {self.got}")


class CertificateFormatError(TdxError):
    """A PCK certificate, or the SGX extension in it, does not parse."""

    def __init__(self, part: str, problem: str) -> None:
        self.part = part
        super().__init__(f"PCK certificate, {part}: {problem}")


class EvidenceFormatError(TdxError):
    """A file that holds neither quote, report, log nor evidence. ``problem`` says where it ends."""

    def __init__(self, part: str, problem: str, *, hint: str = "") -> None:
        self.part = part
        super().__init__(f"evidence, {part}: {problem}", hint=hint)


class QuoteBindingError(TdxError):
    """A quote of good form whose report data is not what was sent."""

    def __init__(self, *, expected: bytes, got: bytes) -> None:
        self.expected = expected
        self.got = got
        super().__init__(
            f"TDX quote: expected report data {expected.hex()}, got {got.hex()}",
            hint="the host answered with another or an older quote",
        )


class MeasurementError(TdxError):
    """A measurement register cannot be read or extended."""

    def __init__(self, attempted: str, path: str, problem: str, *, hint: str = "") -> None:
        self.attempted = attempted
        self.path = path
        super().__init__(f"{attempted} measurement register {path}: {problem}", hint=hint)


class MeasurementBusyError(MeasurementError):
    """The TDX module was busy, or a signal came first. Worth another try if nothing moved."""


class MeasurementsAbsentError(MeasurementError):
    """This kernel offers no measurement registers (they came with Linux 6.16)."""


class EventLogError(TdxError):
    """The bytes are not an event log this parser knows. ``offset`` counts from its start."""

    def __init__(self, field: str, offset: int, *, expected: str, got: str) -> None:
        self.field = field
        self.offset = offset
        self.expected = expected
        self.got = got[:64]
        super().__init__(
            f"event log, {field} at byte {offset}: expected {expected}, got {got[:64]}"
        )


class BootLogError(TdxError):
    """The boot event log is there and cannot be read."""

    def __init__(self, path: str, problem: str, *, hint: str = "") -> None:
        self.path = path
        super().__init__(f"read boot event log {path}: {problem}", hint=hint)


class InitdataError(TdxError):
    """The initdata cannot be compared with what this TD was started with."""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(f"initdata: {problem}", hint=hint)


class InitdataMissingError(InitdataError):
    """MRCONFIGID shows that a document was bound, and the host does not deliver it."""

    def __init__(self, got: bytes) -> None:
        self.got = got
        super().__init__(
            f"no device holds a document, but MRCONFIGID is {got.hex()}",
            hint="the host must attach the initdata device of this TD",
        )


class InitdataMismatchError(InitdataError):
    """MRCONFIGID holds another digest: the host passed another document."""

    remark = ""

    def __init__(self, algorithm: str, size: int, *, expected: bytes, got: bytes) -> None:
        self.algorithm = algorithm
        self.size = size
        self.expected = expected
        self.got = got
        fitted = "" if size == len(expected) else f" of {size} bytes, as {len(expected)} bytes,"
        super().__init__(
            f"{algorithm} digest{fitted} is {expected.hex()}, "
            f"MRCONFIGID is {got.hex()}{self.remark}",
            hint="the host must start the TD with the digest of exactly this document",
        )


class InitdataUnboundError(InitdataMismatchError):
    """MRCONFIGID is zero: a document was delivered that nothing vouches for."""

    remark = "; it is all zeros, so no initdata was bound"


def tsm_error(attempted: str, path: str, error: OSError) -> TsmError:
    """Return our error for an errno of the report interface, with what to do about it.

    Source: Linux drivers/virt/coco/guest/report.c and drivers/virt/coco/tdx-guest.
    """
    code = error.errno or 0
    kind, hint = _BY_ERRNO.get(code, (TsmIoError, ""))
    return kind(attempted, path, errno_text(code), hint=hint)


_BY_ERRNO: dict[int, tuple[type[TsmError], str]] = {
    errno.ENOENT: (TsmUnavailableError, KERNEL_HINT),
    errno.ENOTDIR: (TsmUnavailableError, "report_path must be the directory tsm/report"),
    errno.ENXIO: (
        TsmUnavailableError,
        "the report interface has no provider: this machine is no TD, or tdx_guest is not loaded",
    ),
    errno.EACCES: (TsmUnavailableError, "run as root"),
    errno.EPERM: (TsmUnavailableError, "run as root; report_path must be tsm/report itself"),
    errno.EROFS: (TsmUnavailableError, "configfs is mounted read-only; remount it read-write"),
    errno.EBUSY: (TsmBusyError, "an earlier quote request is in flight; try again later"),
    errno.EINTR: (TsmInterruptedError, "a signal ended the wait; try again"),
    errno.ETIMEDOUT: (
        TsmTimeoutError,
        "the host's quote generation service did not answer; look at the host",
    ),
    errno.EIO: (TsmHostError, "the host or the TDX module refused; look at the host's QGS log"),
    errno.EFBIG: (TsmHostError, "the blob is larger than the interface allows"),
    errno.EINVAL: (TsmIoError, "report data must be exactly 64 bytes"),
}
