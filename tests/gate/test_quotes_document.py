"""docs/quotes.md has a line for every check of a verdict and every form of a file."""

from __future__ import annotations

import re

from tdx.verify import CheckName
from tests.conftest import ROOT


def test_every_check_has_a_line_in_order() -> None:
    text = (ROOT / "docs" / "quotes.md").read_text()
    assert re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE) == [
        name.value for name in CheckName
    ]
