"""Who may import whom. The arrows of docs/architecture.md, enforced on the parsed imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

EVERYTHING = {
    "agent", "bench", "cdh", "cguest", "cguestd", "demo", "explain", "guesthook", "kbs", "keywrap",
    "kms", "lifecycle", "mocktee", "ossmount", "protos", "receipts", "rest", "secrecy", "serving",
    "tdx", "tests", "ttrpc",
}  # fmt: skip
PRODUCT = EVERYTHING - {"bench", "demo", "mocktee", "tests"}
ARROWS: dict[str, set[str]] = {
    "secrecy": set(),
    "lifecycle": {"secrecy"},
    "ttrpc": {"secrecy", "lifecycle"},
    "protos": {"ttrpc"},
    "tdx": {"secrecy"},
    "kbs": {"secrecy"},
    "serving": {"ttrpc", "lifecycle", "secrecy"},
    "keywrap": {"secrecy"},
    "kms": {"secrecy"},
    "receipts": {"secrecy"},
    "agent": {
        "tdx", "kbs", "keywrap", "receipts", "serving", "protos", "ttrpc", "lifecycle", "secrecy",
    },
    "cdh": {
        "kbs", "keywrap", "kms", "receipts", "serving", "protos", "ttrpc", "lifecycle", "secrecy",
    },
    "rest": {"serving", "protos", "ttrpc", "lifecycle", "secrecy"},
    "guesthook": {"protos", "ttrpc", "lifecycle", "secrecy"},
    "ossmount": {"lifecycle", "secrecy"},
    "explain": {"tdx", "kbs", "secrecy"},
    "cguest": {
        "explain", "protos", "ttrpc", "tdx", "kbs", "cdh", "kms", "receipts", "lifecycle",
        "secrecy",
    },
    "cguestd": PRODUCT - {"cguest", "cguestd", "explain", "guesthook"},
    "mocktee": set(),
    "demo": EVERYTHING,
    "bench": EVERYTHING,
    "tests": EVERYTHING,
}  # fmt: skip


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide arrows"
            yield (node.module or "").partition(".")[0]


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_imports_follow_the_arrows(package: str) -> None:
    allowed = ARROWS[package] | {package}
    modules = _modules(package)
    assert modules, f"{package}/ has no modules"
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules
        for name in _imports(ast.parse(path.read_text()))
        if name in EVERYTHING and name not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_the_arrows_have_no_cycle() -> None:
    order: list[str] = []
    left = {name: ARROWS[name] & PRODUCT for name in PRODUCT}
    while left:
        free = [name for name, needs in left.items() if needs <= set(order)]
        assert free, f"cycle among {sorted(left)}"
        order += free
        left = {name: needs for name, needs in left.items() if name not in free}


def test_the_document_has_the_same_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\| ([^|]*) \|$", text, re.MULTILINE)
    written = {name: {word for word in re.split(r"\W+", row) if word} for name, row in rows}
    assert written.pop("mocktee") == {"nothing", "of", "ours"}
    assert written.pop("secrecy") == {"nothing"}
    assert written == {name: ARROWS[name] for name in PRODUCT - {"secrecy"}}


def test_every_top_level_package_is_in_the_table() -> None:
    present = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert present == EVERYTHING
