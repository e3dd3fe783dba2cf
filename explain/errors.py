"""What can go wrong before anything can be explained: input that is not what it should be.

A refusal that was found is a :class:`~explain.finding.Finding`, never an error.
"""

from __future__ import annotations

MAX_GOT: int = 120  # characters of somebody else's text in a message


class ExplainError(Exception):
    """Base: what was read, what is wrong with it, and what a person can do."""

    def __init__(self, attempted: str, problem: str, *, hint: str = "") -> None:
        self.attempted = attempted
        self.problem = problem
        self.hint = hint
        text = f"{attempted}: {problem}"
        super().__init__(f"{text} ({hint})" if hint else text)


class BundleError(ExplainError):
    """A bundle, or one of its parts, cannot be used. ``part`` is its name, cut and printable."""

    def __init__(self, part: str, problem: str, *, hint: str = "") -> None:
        self.part = part[:MAX_GOT]
        super().__init__(f"reading bundle part {self.part!r}", problem, hint=hint)


class SecretInBundleError(BundleError):
    """A part holds what may never leave the guest. The message never quotes it."""

    def __init__(self, part: str, what: str) -> None:
        self.what = what
        super().__init__(
            part,
            f"it holds {what}",
            hint="delete the file, and replace that secret if the file was ever passed on",
        )


class ReferenceValuesError(ExplainError):
    """The text is not reference values in a form that Trustee's RVPS knows."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            "reading reference values",
            problem,
            hint="give a JSON map from names to hex values, or the body of POST /reference-value",
        )


class BootMeasurementError(ExplainError):
    """A measurement cannot be computed from what was given."""

    def __init__(self, what: str, problem: str, *, hint: str = "") -> None:
        self.what = what
        super().__init__(f"computing {what}", problem, hint=hint)
