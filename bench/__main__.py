"""``python -m bench [PART...] [--reference DIR]``: run, print, keep the samples."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from bench import (
    mounts,
    quote_reading,
    quotes,
    reference,
    services,
    sessions,
    ttrpc_calls,
    unsealing,
)
from bench.figures import Report, machine
from secrecy.journal import configure_logging

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"
PARTS = {
    "quotes": quotes.measure,
    "reading": quote_reading.measure,
    "services": services.measure,
    "sessions": sessions.measure,
    "unsealing": unsealing.measure,
    "mounts": mounts.measure,
    "ttrpc": ttrpc_calls.measure,
}


async def measure(parts: list[str], peers: Path | None) -> None:
    report = Report()
    print(machine(), flush=True)
    for part in parts:
        print(part, flush=True)
        await PARTS[part](report)
    if peers is not None:
        print("reference", flush=True)
        await reference.measure(report, peers)
    report.save(RESULTS)
    print("\n" + report.table())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument(
        "--reference", type=Path, metavar="DIR",
        help="folder with the reference's attestation-agent and confidential-data-hub",
    )  # fmt: skip
    args = parser.parse_args()
    configure_logging("warning")
    asyncio.run(measure(args.parts or list(PARTS), args.reference))
    return 0


if __name__ == "__main__":
    sys.exit(main())
