"""One bucket mount, started by a parent as ``python -m ossmount --launch-fd N ...``.

Composition root. Exit codes: 0 the mount ended in good order, 1 it could not start or failed
(the status pipe says why), 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lifecycle import Shutdown, run_service
from lifecycle.run import EXIT_FAILED, first_cause
from ossmount.errors import OssMountError
from ossmount.launch import LaunchSpec, read_document
from ossmount.service import Lifeline, serve
from ossmount.status import StatusPipe, hint_of
from secrecy.journal import configure_logging, get_logger

log = get_logger("ossmount")
LEVELS = ("debug", "info", "warning", "error")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line. Only descriptors and loudness: everything else is in the pipe."""
    parser = argparse.ArgumentParser(
        prog="ossmount", description="One bucket mount, started by a parent."
    )
    parser.add_argument(
        "--launch-fd", type=int, required=True, help="pipe with the launch document"
    )
    parser.add_argument("--status-fd", type=int, required=True, help="pipe for status lines")
    parser.add_argument("--lifeline-fd", type=int, required=True, help="end of file here ends us")
    parser.add_argument("--log-level", choices=LEVELS, default="warning")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one mount to its end and return the exit code."""
    arguments = parse_arguments(argv)
    configure_logging(arguments.log_level)
    status = StatusPipe(arguments.status_fd)

    failed = False

    async def root(shutdown: Shutdown) -> None:
        nonlocal failed
        try:
            spec = LaunchSpec.parse(read_document(arguments.launch_fd))
            with Lifeline(arguments.lifeline_fd, shutdown):
                await serve(spec, shutdown, status.ready)
        except OssMountError as error:
            # Said here, as one structured line, because the parent keeps what stderr says.
            log.error("failed", error=error, hint=hint_of(error))  # noqa: TRY400
            status.failed(error)
            failed = True
        except Exception as error:
            status.failed(first_cause(error))
            raise
        else:
            status.stopped()

    code = run_service(root)
    return EXIT_FAILED if failed else code


if __name__ == "__main__":
    sys.exit(main())
