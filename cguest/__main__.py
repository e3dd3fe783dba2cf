"""Entry point of ``cguest``: parse, run one command, print, exit with the code that says it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cguest.commands import (
    attestation,
    calling,
    doctor,
    eventlogs,
    explaining,
    mounts,
    quotes,
    receipts,
    references,
    secrets,
)
from cguest.commands.registry import add_verb
from cguest.connection import RefusedError
from cguest.outcome import Exit
from cguest.sockets import resolve
from secrecy.journal import configure_logging

NOUNS = (
    *attestation.NOUNS,
    *quotes.NOUNS,
    *eventlogs.NOUNS,
    *secrets.NOUNS,
    *mounts.NOUNS,
    *receipts.NOUNS,
)
TOP = (*attestation.TOP, *explaining.TOP, *references.TOP, *doctor.TOP, *calling.TOP)
EPILOG = """\
exit codes:
  0  it holds, or it was done
  1  refused: the key broker, a policy or a check in the guest said no
  2  the command line is wrong
  3  error: it could not be found out or done

examples:
  cguest doctor
  cguest attest --explain
  cguest resource get kbs:///default/key/1 > key
  cguest -o json mount list
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every verb."""
    parser = argparse.ArgumentParser(
        prog="cguest",
        description="Ask and steer the confidential guest's daemons.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, help="the file cguestd was started with")
    parser.add_argument("--agent-socket", metavar="unix:///PATH", help="attestation agent")
    parser.add_argument("--hub-socket", metavar="unix:///PATH", help="confidential data hub")
    parser.add_argument("-o", "--output-format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--timeout", type=float, default=50.0, metavar="S", help="seconds (default 50)"
    )
    parser.add_argument("--version", action="version", version=version("confidential-guest"))
    top = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for verb in TOP:
        add_verb(top, verb)
    for noun in NOUNS:
        group = top.add_parser(noun.name, help=noun.help, description=noun.help.capitalize() + ".")
        verbs = group.add_subparsers(required=True, metavar="VERB", title="verbs")
        for verb in noun.verbs:
            add_verb(verbs, verb)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. Usage errors exit 2 through argparse."""
    args = build_parser().parse_args(argv)
    configure_logging("error")
    try:
        targets = resolve(args.config, args.agent_socket, args.hub_socket)
        outcome = asyncio.run(args.run(args, targets))
        outcome.print(args.output_format)
        return int(outcome.exit)
    except RefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        return Exit.REFUSED
    except KeyboardInterrupt:
        return Exit.ERROR
    except Exception as error:
        # Every error of ours has a hint; anything else is a defect and shows its trace.
        if not hasattr(error, "hint"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return Exit.ERROR


if __name__ == "__main__":
    sys.exit(main())
