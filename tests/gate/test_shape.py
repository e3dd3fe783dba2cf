"""The shape of the house: small files and functions, named rooms, nothing of this machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # the aim is 40; docstrings are not counted
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]


def sources() -> list[Path]:
    return [path for path in tracked("*.py") if not path.stem.endswith("_pb2")]


def test_files_are_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert not long


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_functions_are_small() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {_code_lines(node)}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _code_lines(node) > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_no_drawer_modules() -> None:
    assert not [path for path in sources() if path.stem.lstrip("_") in DRAWERS]


def test_every_module_says_what_it_owns() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_nothing_of_one_machine_is_in_the_tree() -> None:
    # Split so that this file does not find itself.
    word = re.compile(
        r"/wo" + r"rk/|pypi\.o" + r"rg|files\.pythonh" + r"osted|deb\.deb" + r"ian\.org"
        r"|crates\.io-in" + r"dex|proxy\.gol" + r"ang\.org"
    )
    found = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix not in {".bin", ".hex", ".png"}
        and word.search(path.read_text(errors="replace"))
    ]
    assert not found


@pytest.mark.parametrize("name", ["build", "runtime", "dev"])
def test_every_locked_package_has_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    for block in re.split(r"\n(?=[a-zA-Z0-9])", text.strip()):
        assert "==" in block and "--hash=sha256:" in block, block[:80]


def test_every_direct_dependency_is_locked_and_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"]["mocktee"]]
    direct += (ROOT / "requirements" / "dev.in").read_text().splitlines()
    direct += (ROOT / "requirements" / "build.in").read_text().splitlines()
    names = {re.split(r"[>=<\s]", line)[0] for line in direct if line and line[0] != "#"}
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    locked = "".join((ROOT / "requirements" / f"{n}.txt").read_text() for n in ("build", "dev"))
    for name in sorted(names):
        assert f"`{name}`" in reasons, f"docs/dependencies.md gives no reason for {name}"
        canonical = re.escape(name.lower().replace("_", "-"))
        assert re.search(rf"^{canonical}==", locked, re.MULTILINE), name
