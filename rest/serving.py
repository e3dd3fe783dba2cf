"""Serving REST as a process of its own: backends over sockets, readiness and an orderly end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lifecycle import PassedSockets, Readiness, Shutdown, UnixAddress
from rest.config import RestConfig
from serving.watchdog import HttpRequest, serve_until

if TYPE_CHECKING:
    from rest.backends import Backends
    from rest.counts import RestCounts


@asynccontextmanager
async def open_rest_doors(
    config: RestConfig,
    backends: Backends,
    passed: PassedSockets,
    counts: RestCounts | None = None,
) -> AsyncIterator[HttpRequest]:
    """Open the TCP port, and the containers' socket if there is one; yield a probe of the port.

    The socket may be passed under the name ``rest``. Raises as :func:`rest.app.open_rest`.
    """
    # aiohttp's server costs a fifth of a second to import; who does without REST does not pay.
    from rest.app import open_rest

    socket = None if config.socket is None else UnixAddress.parse(config.socket)
    given = None if socket is None else passed.take("rest", socket)
    async with open_rest(config, backends, counts=counts, passed=given) as bound:
        yield HttpRequest(bound.host, bound.port, "/livez")


def passed_names(config: RestConfig) -> list[str]:
    """Return the names under which systemd may pass sockets."""
    return [] if config.socket is None else ["rest"]


async def serve(config: RestConfig, shutdown: Shutdown) -> None:
    """Serve until asked to stop. Connects to nobody before the first request."""
    from rest.backends import Backends, TtrpcAttestation, TtrpcResources

    resources = TtrpcResources(UnixAddress.parse(config.cdh_addr))
    attestation = TtrpcAttestation(UnixAddress.parse(config.aa_addr))
    passed = PassedSockets.of_process()
    passed.require_only(*passed_names(config))
    try:
        async with open_rest_doors(config, Backends(resources, attestation), passed) as probe:
            await serve_until(shutdown, Readiness(), {"rest": probe})
    finally:
        await resources.aclose()
        await attestation.aclose()
