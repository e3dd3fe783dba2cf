"""``api-server-rest``: the REST server as a process of its own, as kata-agent starts it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lifecycle import LifecycleError, run_service
from rest.config import DEFAULT_AGENT, DEFAULT_BIND, DEFAULT_CDH, RestConfig
from rest.errors import RestError
from rest.routes import Feature
from rest.serving import serve
from secrecy.journal import configure_logging


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="api-server-rest",
        description="Gives workloads of this guest resources and attestation over loopback HTTP.",
    )
    parser.add_argument("-b", "--bind", default=DEFAULT_BIND, metavar="ADDRESS:PORT")
    parser.add_argument(
        "-f", "--features", default=Feature.RESOURCE.value, help=" | ".join(Feature)
    )
    parser.add_argument("-c", "--cdh_addr", default=DEFAULT_CDH, metavar="URI")
    parser.add_argument("-a", "--aa_addr", default=DEFAULT_AGENT, metavar="URI")
    parser.add_argument("--log-level", default="warning")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code: 0 orderly end, 1 failure, 2 usage."""
    arguments = _arguments(argv)
    config = RestConfig(
        bind=arguments.bind,
        features=arguments.features,
        cdh_addr=arguments.cdh_addr,
        aa_addr=arguments.aa_addr,
    )
    try:
        configure_logging(arguments.log_level)
        config.check()
    except (LifecycleError, RestError, ValueError) as error:
        sys.stderr.write(f"api-server-rest: {error}\n")
        return 1
    return run_service(lambda shutdown: serve(config, shutdown))


if __name__ == "__main__":
    sys.exit(main())
