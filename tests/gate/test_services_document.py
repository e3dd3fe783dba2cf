"""docs/services.md knows every method that the protos declare, with every field and a command."""

from __future__ import annotations

import re
import shlex

import pytest

from cguest.__main__ import build_parser
from cguest.interface import InterfaceMethod, fields_of, interface
from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs" / "services.md").read_text()


def blocks(text: str) -> list[tuple[str, str]]:
    """Kind and content of every fenced block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    return [line for kind, block in blocks(text) if kind == "sh" for line in block.splitlines()]


def section_of(method: InterfaceMethod) -> str:
    heading = f"### `{method.full_name}`\n"
    assert heading in DOCUMENT, f"docs/services.md says nothing of {method.full_name}"
    return re.split(r"^##", DOCUMENT.split(heading)[1], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("method", interface().values(), ids=lambda method: method.full_name)
def test_every_method_is_described_with_a_command(method: InterfaceMethod) -> None:
    section = section_of(method)
    prose = re.sub(r"^```.*?^```", "", section, flags=re.MULTILINE | re.DOTALL)
    for field in (*fields_of(method.request), *fields_of(method.response)):
        assert f"`{field}`" in prose or method.name == "GetStatus", f"{field} is not explained"
    assert any(method.full_name in line for line in commands(section))


def test_no_method_is_described_that_is_none() -> None:
    named = set(re.findall(r"^### `([\w.]+/\w+)`$", DOCUMENT, re.MULTILINE))
    assert named == set(interface())


def test_every_command_parses() -> None:
    found = [line for line in commands(DOCUMENT) if re.search(r"(^|\| )cguest ", line)]
    assert len(found) > len(interface())
    for line in found:
        words = shlex.split(re.sub(r"[|>] *\S*$", "", line.rpartition("| ")[2]))
        build_parser().parse_args(words[1:])
