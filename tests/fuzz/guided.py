"""``python -m tests.fuzz.guided [--runs N | --seconds N] [--seed N] [NAME ...]``: atheris.

Coverage-guided fuzzing of every door. Each target runs in a process of its own, because libFuzzer
ends the process it runs in; all are forked from one that has imported everything instrumented.
A finding is written to ``.cache/fuzz`` and ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(
    include=[
        "agent",
        "cdh",
        "guesthook",
        "keywrap",
        "lifecycle",
        "protos",
        "rest",
        "serving",
        "tdx",
        "ttrpc",
    ]
):
    from tests.fuzz.door_parsers import PARSERS, DoorTarget
    from tests.fuzz.door_sockets import SOCKETS

from secrecy.journal import configure_logging
from tests.conftest import ROOT

FINDINGS: Final = ROOT / ".cache" / "fuzz"
MAX_INPUT: Final = 4096  # bytes; what is longer is refused early and teaches nothing
TARGETS: Final = (*PARSERS, *SOCKETS)


def _fuzz(target: DoorTarget, limits: list[str], seed: int) -> None:
    """Replace this process's run by libFuzzer's, which ends it."""
    corpus = Path(tempfile.mkdtemp())
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)
    arguments = [
        "guided", str(corpus), f"-seed={seed}", f"-max_len={MAX_INPUT}", "-timeout=30",
        "-rss_limit_mb=2048", f"-artifact_prefix={FINDINGS}/{target.name}-", "-verbosity=0",
        "-print_final_stats=0", *limits,
    ]  # fmt: skip
    atheris.Setup(arguments, target.holds)
    atheris.Fuzz()


def _run(target: DoorTarget, limits: list[str], seed: int) -> int:
    """Fuzz in a child and return its exit code."""
    child = os.fork()
    if child == 0:
        try:
            _fuzz(target, limits, seed)
        finally:
            os._exit(70)  # not reached: libFuzzer exits
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--runs", type=int, help="inputs for each target")
    how_long.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**31 + 1)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these targets")
    args = parser.parse_args()
    chosen = [target for target in TARGETS if not args.names or target.name in args.names]
    if args.runs is not None:
        limits = [f"-runs={args.runs}"]
    else:
        limits = [f"-max_total_time={max(args.seconds // max(len(chosen), 1), 1)}"]
    configure_logging("error")
    FINDINGS.mkdir(parents=True, exist_ok=True)
    print(f"seed {args.seed}", flush=True)
    failed = []
    # The children leave without cleaning up; what they make lies in here.
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        tempfile.tempdir = scratch
        for target in chosen:
            code = _run(target, limits, args.seed)
            print(f"{target.name:<20} {'no finding' if code == 0 else 'FINDING'}", flush=True)
            failed += [target.name] if code else []
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
