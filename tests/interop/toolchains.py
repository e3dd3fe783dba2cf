"""Programs of other implementations: finding the compilers, building from locked sources.

Where tests must not be skipped (``CI`` is set), a missing compiler is a failure. ``tools/setup.sh``
installs them there: Go 1.19 from Debian 12's ``golang-go``, Rust from its ``rustc-web``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

INTEROP: Final = Path(__file__).resolve().parent
ROOT: Final = INTEROP.parent.parent
GO_SOURCE: Final = INTEROP / "ttrpc_go"
RUST_SOURCE: Final = INTEROP / "ttrpc_rust"
CACHE: Final = ROOT / ".cache" / "interop"
BUILD_SECONDS: Final = 500  # a cold cache compiles the standard library on slow machines
# Built without C, and with the Go that is there: none is downloaded.
GO_SETTINGS: Final = {
    "CGO_ENABLED": "0",
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-buildvcs=false -mod=readonly",
}
GO_MODULE: Final = "confidentialguest/ttrpcpeer"
GO_PLUGINS: Final = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "protoc-gen-go-ttrpc": "github.com/containerd/ttrpc/cmd/protoc-gen-go-ttrpc",
}
PROTOS: Final = (
    "protos/api.proto",
    "protos/attestation_agent.proto",
    "protos/getresource.proto",
    "protos/keyprovider.proto",
    "tests/interop/peer.proto",
)


def compiler(name: str, package: str) -> str:
    """Path of a compiler. Without it the test fails in CI and is skipped elsewhere."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {name}: apt-get install {package}")
        pytest.skip(f"there is no {name} on this machine (apt-get install {package})")
    return path


def run_tool(
    command: Sequence[str], cwd: Path, settings: Mapping[str, str], seconds: int = BUILD_SECONDS
) -> None:
    """Run to the end; its last words are in the failure."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **settings}, timeout=seconds,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command[0]} {command[1]}: {done.stderr[-3000:]}"


@functools.cache
def build_go_peer() -> Path:
    """Compile the Go program, unless these very sources were compiled by this Go before."""
    go = compiler("go", "golang-go")
    version = subprocess.run([go, "version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version)
    for path in (Path(__file__), *sorted(GO_SOURCE.iterdir()), *(ROOT / name for name in PROTOS)):
        digest.update(path.read_bytes())
    finished = CACHE / f"go-{digest.hexdigest()[:16]}"
    if not finished.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            work = Path(name) / "go"
            shutil.copytree(GO_SOURCE, work)
            generate_and_compile(go, work)
            with contextlib.suppress(OSError):  # another run was faster
                work.rename(finished)
    return finished / "peer"


def generate_and_compile(go: str, work: Path) -> None:
    """Make Go from our ``.proto`` files with the generators that ``go.sum`` locks, and build."""
    run_tool([go, "mod", "verify"], work, GO_SETTINGS)
    plugins = work / "plugins"
    for name, package in GO_PLUGINS.items():
        run_tool([go, "build", "-o", str(plugins / name), package], work, GO_SETTINGS)
    packages = [f"M{name}={GO_MODULE}/gen/{Path(name).stem}" for name in PROTOS]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT}"]
    for kind in ("go", "go-ttrpc"):
        command += [f"--plugin={plugins / f'protoc-gen-{kind}'}", f"--{kind}_out={work}"]
        command += [f"--{kind}_opt={option}" for option in (f"module={GO_MODULE}", *packages)]
    run_tool([*command, *PROTOS], work, {})
    run_tool([go, "build", "-o", "peer", "."], work, GO_SETTINGS)


def check_go_source(folder: Path, complete: Path) -> None:
    """``folder`` is formatted; ``complete``, which has the generated code too, passes vet."""
    go = compiler("go", "golang-go")
    run_tool([go, "vet", "."], complete, GO_SETTINGS)
    sources = [str(path) for path in sorted(folder.glob("*.go"))]
    command = [str(Path(go).with_name("gofmt")), "-l", *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def lock_crates(cargo: str) -> None:
    """Write ``Cargo.lock`` from ``crates.lock``, with the registry that this cargo names."""
    lock = RUST_SOURCE / "Cargo.lock"
    if not lock.exists():
        run_tool([cargo, "generate-lockfile", "--quiet"], RUST_SOURCE, {})
    source = next(line for line in lock.read_text().splitlines() if line.startswith("source = "))
    pinned = (RUST_SOURCE / "crates.lock").read_text()
    whole = pinned.replace("\nchecksum = ", f"\n{source}\nchecksum = ")
    if lock.read_text() != whole:
        lock.write_text(whole)


@functools.cache
def build_rust_peer() -> Path:
    """Compile the crate; its build script generates Rust from the same ``.proto`` files."""
    cargo = compiler("cargo", "cargo-web")
    target = CACHE / "rust"
    settings = {"CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never"}
    lock_crates(cargo)
    run_tool([cargo, "build", "--locked", "--quiet"], RUST_SOURCE, settings)
    return target / "debug" / "ttrpc-peer"


def build_peer(language: str) -> Path:
    """Compile the program of ``go`` or ``rust``."""
    return {"go": build_go_peer, "rust": build_rust_peer}[language]()
