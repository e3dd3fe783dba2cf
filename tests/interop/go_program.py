"""The Go program beside us: finding Go, building, running.

Where tests must not be skipped (``CI`` is set), a missing Go is a failure. On Debian 12 the package
``golang-go`` (1.19) suffices: the modules in ``go/go.mod`` ask for no more. ``tools/setup.sh``
installs it where ``CI`` is set.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SOURCE: Final = Path(__file__).resolve().parent / "go"
BUILD_SECONDS: Final = 500  # a cold cache compiles the standard library on slow machines
RUN_SECONDS: Final = 60
# Built without C, and with the Go that is there: none is downloaded.
SETTINGS: Final = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}


@dataclass(frozen=True, slots=True)
class Job:
    """A quote and what to verify it with; without collateral, revocation is not checked."""

    quote: bytes
    root_der: bytes
    now: int  # Unix seconds
    collateral: Mapping[str, str] | None = None

    def encoded(self) -> dict[str, object]:
        return {
            "quote": base64.b64encode(self.quote).decode(),
            "root": base64.b64encode(self.root_der).decode(),
            "now": self.now,
            "collateral": self.collateral,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    parse_error: str
    verify_error: str
    text: Mapping[str, str]
    numbers: Mapping[str, int]


def find_go() -> str | None:
    return shutil.which("go")


def build(go: str, folder: Path) -> Path:
    """Compile into ``folder``; module downloads are checked against ``go.sum``."""
    program = folder / "interop"
    done = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=SOURCE, env=os.environ | SETTINGS, timeout=BUILD_SECONDS,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"go build: {done.stderr[-2000:]}"
    return program


def ask(program: Path, jobs: Sequence[Job]) -> list[Answer]:
    """Run the program once over all jobs."""
    done = subprocess.run(
        [str(program)], input=json.dumps([job.encoded() for job in jobs]), timeout=RUN_SECONDS,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[Any] = json.loads(done.stdout)
    return [
        Answer(a["parse_error"], a["verify_error"], a["text"] or {}, a["numbers"] or {})
        for a in answers
    ]
