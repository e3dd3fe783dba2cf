"""Documents agree with the code: links, exit codes, verbs and configuration keys."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.config import AgentConfig
from cdh.config import CdhConfig
from cguest.__main__ import NOUNS, TOP, build_parser
from cguest.outcome import Exit
from rest.config import RestConfig
from tests.conftest import ROOT
from tests.gate.test_shape import tracked


@pytest.mark.parametrize("path", tracked("*.md"), ids=lambda path: path.name)
def test_local_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", tracked("*.md"), ids=lambda path: path.name)
def test_the_tests_it_names_are_there(path: Path) -> None:
    for name in re.findall(r"`(tests/[\w./*-]+)`", path.read_text()):
        assert any(ROOT.glob(name)), f"{path.name} names {name}"


def test_exit_codes_are_those_of_the_code() -> None:
    table = (ROOT / "docs" / "cguest.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d) \|", table, re.MULTILINE)} == set(Exit)


def test_every_verb_is_described() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("cguest.md", "attestation.md")
                   if (ROOT / "docs" / name).exists())  # fmt: skip
    names = [verb.name for verb in TOP]
    names += [f"{noun.name} {verb.name}" for noun in NOUNS for verb in noun.verbs]
    missing = [name for name in names if not re.search(rf"cguest [^\n]*\b{name}\b", text)]
    assert not missing


def _parses(line: str) -> bool:
    try:
        build_parser().parse_args(shlex.split(line)[1:])
    except (SystemExit, argparse.ArgumentError):
        return False
    return True


@pytest.mark.parametrize("path", tracked("*.md"), ids=lambda path: path.name)
def test_every_command_line_parses(path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    for block in blocks:
        for line in block.splitlines():
            found = re.match(r"(?:\S*/)?(cguest [^|><]*)", line.strip())
            if found:
                command = re.sub(r'"\$\([^)]*\)"', "sealed.x", found.group(1))
                assert _parses(command), line


def _struct_in(annotation: object) -> type[msgspec.Struct] | None:
    """The structure that a field holds, also where it may be None."""
    for part in getattr(annotation, "__args__", (annotation,)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part
    return None


def _keys(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        inner = _struct_in(field.type)
        if inner is None or field.name in {"credentials", "named", "others"}:
            yield prefix + field.encode_name
        else:
            yield from _keys(inner, f"{prefix}{field.name}.")


CONFIGURATIONS = (
    pytest.param(AgentConfig, "configuration.md", id="agent"),
    pytest.param(RestConfig, "configuration.md", id="rest"),
    pytest.param(RestConfig, "rest.md", id="rest, its own document"),
    pytest.param(CdhConfig, "data-hub.md", id="cdh"),
)


@pytest.mark.parametrize(("kind", "name"), CONFIGURATIONS)
def test_every_configuration_key_is_described(kind: type[msgspec.Struct], name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    missing = [key for key in _keys(kind) if f"`{key}`" not in text]
    assert not missing
