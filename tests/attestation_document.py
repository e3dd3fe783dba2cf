"""Writes the examples of ``docs/attestation.md``: the real output of ``cguest explain``.

Run ``python -m tests.attestation_document`` after changing what is said; a gate test compares. Long
values differ with every run, since each authority is new: the page shows their first digits.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Final

from cguest.__main__ import main
from tests.bundles import REFUSED
from tests.refusals import REFUSALS, Refusal

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "attestation.md"
BEGIN: Final = "<!-- written by tests/attestation_document.py: begin -->"
END: Final = "<!-- written by tests/attestation_document.py: end -->"
LONG_VALUE: Final = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24,}\b")


def output(refusal: Refusal, *, whole: bool) -> str:
    """What ``cguest explain`` prints of a refusal; without the KBS's bare "no" if not ``whole``."""
    parts = refusal.make()
    if not whole and json.loads(parts.get("kbs-answer.json", b"{}")) == REFUSED:
        del parts["kbs-answer.json"]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in parts.items():
            (Path(folder) / name).write_bytes(content)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            main(["explain", folder])
    return LONG_VALUE.sub(r"\1…", printed.getvalue().strip())


def rendered() -> str:
    """The generated part of the page."""
    chapters = [
        f"### {number}. {refusal.title}\n\n{refusal.done}\n\n"
        f"```text\n{output(refusal, whole=number == 1)}\n```\n"
        for number, refusal in enumerate(REFUSALS, 1)
    ]
    return "\n".join(chapters)


def without_values(text: str) -> str:
    """Drop what differs with every authority: the digits of long values."""
    return re.sub(r"[0-9a-f]{8}…|\b[0-9a-f]{16,}\b", "(value)", text)


def written(page: str, chapters: str) -> str:
    """Return the page with another generated part."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{chapters}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), rendered()))
