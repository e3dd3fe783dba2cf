"""docs/attestation.md says what ``cguest explain`` says, and has a line for every code."""

from __future__ import annotations

import re

from explain import Code, Part
from explain.binding import thumbprint
from tests.attestation_document import BEGIN, END, PAGE, output, without_values
from tests.bundles import KEY
from tests.refusals import REFUSALS


def _chapters() -> dict[str, str]:
    generated = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    found = re.findall(
        r"^### \d+\. (.+?)\n\n.*?```text\n(.*?)\n```", generated, re.MULTILINE | re.DOTALL
    )
    return dict(found)


def test_the_examples_are_the_output_of_explain() -> None:
    chapters = _chapters()
    assert list(chapters) == [refusal.title for refusal in REFUSALS]
    for number, refusal in enumerate(REFUSALS, 1):
        fresh = output(refusal, whole=number == 1)
        assert without_values(chapters[refusal.title]).split() == without_values(fresh).split(), (
            "run python -m tests.attestation_document"
        )


def test_every_code_has_a_line() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(set(rows) & set(Code)) == sorted(Code)


def test_every_part_has_a_line() -> None:
    rows = re.findall(r"^\| `([a-z.-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert set(rows) >= {str(part) for part in Part}


def test_thumbprints_do_not_change() -> None:
    assert thumbprint(KEY) == thumbprint(dict(reversed(KEY.items())) | {"kid": "dropped"})
