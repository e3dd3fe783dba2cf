"""The committed protobuf modules are what the generator makes of the committed sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from protos.generate import generate, generated_files
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    generate(folder)
    return folder


@pytest.mark.parametrize("name", generated_files())
def test_committed_module_is_current(regenerated: Path, name: str) -> None:
    fresh = (regenerated / name).read_text(encoding="utf-8")
    assert (ROOT / name).read_text(encoding="utf-8") == fresh, "run python protos/generate.py"


def test_every_source_is_generated() -> None:
    sources = {str(path.relative_to(ROOT)) for path in ROOT.glob("*/*.proto")}
    assert {name.replace("_pb2.pyi", ".proto") for name in generated_files()} >= sources


def test_importing_the_contract_needs_no_development_tools() -> None:
    code = (
        "import sys, protos.stubs, protos.tables\n"
        "extra = {'grpc', 'grpc_tools', 'aiohttp', 'cryptography', 'uvloop'} & set(sys.modules)\n"
        "sys.exit(f'imported: {extra}' if extra else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
