"""``python -m tests.fuzz [--seconds N] [--seed N]``: damage recorded inputs until time is up.

A finding is written to ``.cache/fuzz`` and ends the run with exit code 1. The seed is printed, so
that a run can be repeated.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback

from tests.conftest import ROOT
from tests.fuzz.mutations import mutations
from tests.fuzz.targets import TARGETS, Target

ROUND = 200  # inputs of one file between two looks at the clock
FINDINGS = ROOT / ".cache" / "fuzz"


def one_round(target: Target, rng: random.Random) -> int:
    """Return how many inputs were tried."""
    tried = 0
    for path in target.inputs():
        source = mutations(path.read_bytes(), rng)
        for _ in range(ROUND):
            data = next(source)
            try:
                target.holds(data)
            except Exception:
                FINDINGS.mkdir(parents=True, exist_ok=True)
                place = FINDINGS / f"{target.name.replace(' ', '-')}-{path.stem}.bin"
                place.write_bytes(data)
                print(f"FINDING in {target.name}, input kept in {place}")
                raise
            tried += 1
    return tried


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    args = parser.parse_args()
    if not all(target.inputs() for target in TARGETS):
        print("recorded vectors are not beside this checkout: nothing to damage")
        return 2
    print(f"seed {args.seed}", flush=True)
    rng = random.Random(args.seed)
    tried = dict.fromkeys((target.name for target in TARGETS), 0)
    end = time.monotonic() + args.seconds
    try:
        while time.monotonic() < end:
            for target in TARGETS:
                tried[target.name] += one_round(target, rng)
    except Exception:
        traceback.print_exc()
        return 1
    for name, count in tried.items():
        print(f"{name:<20}{count:>12,} inputs, only the parser's own error")
    return 0


if __name__ == "__main__":
    sys.exit(main())
