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
      GuestDeviceError         the TDX guest device (ioctl)
        DeviceAbsentError      not there, without this command, or not permitted
        DeviceBusyError        busy, or interrupted by a signal
        DeviceHostError        the host or the TDX module failed
      QgsError                 the host's Quote Generation Service over a socket
        QgsAddressError        its configured address is none
        QgsUnreachableError    nobody answers there
        QgsTimeoutError        no whole answer in time
        QgsRefusedError        it answered with an error code
        QgsProtocolError       its answer is not of the protocol's form
      QuoteTimeoutError        no quote within the caller's time, whatever the way
      QuoteQueueError          too many different quotes are waited for already
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


class GuestDeviceError(TdxError):
    """A command on the TDX guest device failed: what was attempted, on which node, and why."""

    def __init__(self, attempted: str, path: str, problem: str, *, hint: str = "") -> None:
        self.attempted = attempted
        self.path = path
        super().__init__(f"{attempted} {path}: {problem}", hint=hint)


class DeviceAbsentError(GuestDeviceError):
    """The node is not there, lacks the command, or is not for this process."""


class DeviceBusyError(GuestDeviceError):
    """Busy, or interrupted. Worth another try after a pause."""


class DeviceHostError(GuestDeviceError):
    """The host, or the TDX module, reported a failure."""


class QgsError(TdxError):
    """A quote could not be had from the host's Quote Generation Service."""

    def __init__(self, address: str, problem: str, *, hint: str = "") -> None:
        self.address = address
        super().__init__(f"quote generation service {address}: {problem}", hint=hint)


class QgsAddressError(QgsError):
    """The configured address cannot be used."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(repr(text[:128]), problem, hint="for example vsock:2:4050")


class QgsUnreachableError(QgsError):
    """The connection failed or broke."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(address, problem, hint="see that the host runs its QGS on this port")


class QgsTimeoutError(QgsError):
    """The service did not answer in full in time."""

    def __init__(self, address: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(address, f"no whole answer within {seconds:g} s", hint="look at the host")


class QgsRefusedError(QgsError):
    """The service answered with an error code instead of a quote."""

    def __init__(self, code: int, name: str) -> None:
        self.code = code
        problem = f"answered with error {code:#x} ({name})"
        super().__init__("of the host", problem, hint="look at the host's QGS log")


class QgsProtocolError(QgsError):
    """The answer is not a quote response."""

    def __init__(self, field: str, *, expected: str, got: str) -> None:
        self.field = field
        self.expected = expected
        self.got = got[:64]
        super().__init__("of the host", f"{field}: expected {expected}, got {self.got}")


class QuoteTimeoutError(TdxError):
    """The caller's time ran out. The cause, if there was one, is the last failed try."""

    def __init__(self, where: str, seconds: float, last: TdxError | None) -> None:
        self.seconds = seconds
        cause = f"; last cause: {last}" if last else ""
        super().__init__(
            f"take a quote through {where}: no quote within {seconds:g} s{cause}",
            hint="the host makes one quote at a time and may be overloaded",
        )


class QuoteQueueError(TdxError):
    """Waiting would take longer than anybody waits."""

    def __init__(self, where: str, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(
            f"take a quote through {where}: {waiting} quotes are already waited for",
            hint="ask again later, or find out who asks that often",
        )


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
