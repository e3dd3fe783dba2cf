"""``python -m bench [services|mounts]``: run, print the table, keep the raw samples."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from bench import mounts, services
from bench.figures import Report, machine

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"
PARTS = {"services": services.measure, "mounts": mounts.measure}


async def measure(parts: list[str]) -> None:
    report = Report()
    print(machine(), flush=True)
    for part in parts:
        print(part, flush=True)
        await PARTS[part](report)
    report.save(RESULTS)
    print("\n" + report.table())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parts = parser.parse_args().parts or list(PARTS)
    asyncio.run(measure(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
