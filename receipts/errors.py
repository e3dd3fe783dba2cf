"""What can go wrong with receipts themselves.

::

    ReceiptError
      ReceiptsUnavailableError   a receipt could not be written
      ReceiptsDamagedError       the chain that is there does not hold
      ReceiptsFormatError        a text is no receipt, export or checkpoint
"""

from __future__ import annotations


class ReceiptError(Exception):
    """Base of all errors of this package. ``hint`` says what an operator can do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class ReceiptsUnavailableError(ReceiptError):
    """A receipt could not be written, and without one nothing is released."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"writing a receipt: {reason}",
            hint="receipts.required is set: nothing is released without a receipt",
        )


class ReceiptsDamagedError(ReceiptError):
    """The directory holds a chain that does not hold, or cannot be used at all."""

    def __init__(self, directory: str, problem: str, *, hint: str = "") -> None:
        self.directory = directory
        self.problem = problem
        super().__init__(f"opening the receipts in {directory}: {problem}", hint=hint)


class ReceiptsFormatError(ReceiptError):
    """Bytes are not what they should be. Holds nothing of them."""

    def __init__(self, what: str, problem: str) -> None:
        self.problem = problem
        super().__init__(f"reading {what}: {problem}")
