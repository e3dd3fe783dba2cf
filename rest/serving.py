"""Serving REST as a process of its own: backends over sockets, readiness and an orderly end."""

from __future__ import annotations

from lifecycle import Readiness, Shutdown, UnixAddress
from rest.config import RestConfig


async def serve(config: RestConfig, shutdown: Shutdown) -> None:
    """Serve until asked to stop. Connects to nobody before the first request."""
    # aiohttp is imported here: checking flags should not cost its import.
    from rest.app import open_rest
    from rest.backends import Backends, TtrpcAttestation, TtrpcResources

    resources = TtrpcResources(UnixAddress.parse(config.cdh_addr))
    attestation = TtrpcAttestation(UnixAddress.parse(config.aa_addr))
    readiness = Readiness()
    try:
        async with open_rest(config, Backends(resources, attestation)):
            readiness.ready()
            await shutdown.wait()
            readiness.stopping()
    finally:
        await resources.aclose()
        await attestation.aclose()
