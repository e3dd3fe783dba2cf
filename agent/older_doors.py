"""The sockets of the CoCo 0.8 era: resources and layer keys by way of the agent itself.

An image puller of that time runs inside kata-agent and asks the Attestation Agent on two sockets
of their own, naming the key broker in every request. The agent attests only to key brokers it is
configured for, so a request that names another one is refused by that name.
Source: guest-components ``attestation-agent/app/src`` at v0.8.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

from agent.config import AgentConfig, KbsConfig, TokenConfigs
from agent.errors import KbcUnknownError, KbsUnknownError
from agent.kbs_sessions import STAND_BY_RETRIES, KbsSessions
from agent.service import failing_as
from kbs import (
    FailoverSource,
    KbsClient,
    Replica,
    ResourceFetcher,
    ResourceGetter,
    ResourceUri,
    address_of,
)
from kbs.fetcher import FETCH_SECONDS
from keywrap import open_packet, parse_older_unwrap_request, unwrap_reply
from protos import getresource_pb2, keyprovider_pb2
from protos.tables import older_get_resource_table, older_key_provider_table
from secrecy import Secret
from serving.doors import Door, parse_door
from ttrpc import CallContext, ServiceTable

RESOURCE_FAILED: Final = "[ERROR:attestation-agent] AA-KBC get resource failed"
PARSE_FAILED: Final = "[ERROR:attestation-agent] Parse request failed"
UNWRAP_FAILED: Final = "[ERROR:attestation-agent] AA-KBC key provider failed"
CC_KBC: Final = "cc_kbc"
SCHEME: Final = "kbs://"
# What stands for "the configured one": nothing, and what its clients write where they know none.
ANY_KBS: Final = frozenset({"", "null", "http://localhost"})


class NamedKbs:
    """Chooses the source of resources by the names of KBC and KBS in a request."""

    def __init__(
        self, default: ResourceGetter | None, by_address: Mapping[str, ResourceGetter]
    ) -> None:
        """``by_address`` has ``host[:port]`` as keys; ``default`` None: nothing is configured."""
        self._default = default
        self._by_address = dict(by_address)

    async def get(self, kbc_name: str, kbs_uri: str, path: str) -> Secret:
        """Return the resource at ``path``, ``/repository/type/tag`` or a whole URI.

        Raises :class:`~agent.errors.KbcUnknownError`, :class:`~agent.errors.KbsUnknownError` and
        :class:`~kbs.KbsError`.
        """
        if kbc_name != CC_KBC:
            raise KbcUnknownError(kbc_name, CC_KBC)
        source = self._default if kbs_uri in ANY_KBS else self._by_address.get(_address(kbs_uri))
        if source is None:
            raise KbsUnknownError(kbs_uri, sorted(self._by_address))
        return await source.get(named_resource(path))


def named_resource(path: str) -> ResourceUri:
    """Read ``/repository/type/tag`` or a whole URI. Raises :class:`~kbs.ResourceUriError`."""
    uri = ResourceUri.parse(f"{SCHEME}{path}" if path.startswith("/") else path)
    uri.require_resource_path()
    return uri


def _address(kbs_uri: str) -> str:
    """Return ``host[:port]``; empty for what has none. A scheme may be missing."""
    try:
        return address_of(kbs_uri if "://" in kbs_uri else f"//{kbs_uri}")
    except ValueError:
        return ""


class OlderServicer:
    """Both services: ``getresource.GetResourceService``, ``keyprovider.KeyProviderService``."""

    def __init__(self, kbs: NamedKbs) -> None:
        self._kbs = kbs

    async def get_resource(
        self, request: getresource_pb2.GetResourceRequest, _context: CallContext
    ) -> getresource_pb2.GetResourceResponse:
        with failing_as(RESOURCE_FAILED):
            content = await self._kbs.get(request.KbcName, request.KbsUri, request.ResourcePath)
            return getresource_pb2.GetResourceResponse(Resource=content.reveal())

    async def unwrap_key(
        self, request: keyprovider_pb2.KeyProviderKeyWrapProtocolInput, _context: CallContext
    ) -> keyprovider_pb2.KeyProviderKeyWrapProtocolOutput:
        with failing_as(PARSE_FAILED):
            asked = parse_older_unwrap_request(request.KeyProviderKeyWrapProtocolInput)

        async def kek(uri: str) -> Secret:
            return await self._kbs.get(asked.kbc_name, asked.kbs_uri, uri)

        with failing_as(UNWRAP_FAILED):
            options = await open_packet(asked.packet, kek)
            return keyprovider_pb2.KeyProviderKeyWrapProtocolOutput(
                KeyProviderKeyWrapProtocolOutput=unwrap_reply(options).reveal()
            )


async def open_older_doors(
    config: AgentConfig, sessions: KbsSessions, stack: AsyncExitStack
) -> tuple[Door, ...]:
    """Return the doors that are configured, none by default. Connects nowhere.

    ``stack`` closes the clients. Raises :class:`~kbs.KbsError` for an address or trust anchor that
    cannot be used, and :class:`~lifecycle.SocketError` for the address of a door.
    """
    wanted = (config.keyprovider_socket, config.getresource_socket)
    if wanted == (None, None):
        return ()
    servicer = OlderServicer(await _named_kbs(config.token_configs, sessions, stack))
    tables = (older_key_provider_table(servicer), older_get_resource_table(servicer))
    by_text: dict[str, list[ServiceTable]] = {}
    for text, table in zip(wanted, tables, strict=True):
        if text is not None:
            by_text.setdefault(text, []).append(table)
    return tuple(Door(parse_door(text), served) for text, served in by_text.items())


async def _named_kbs(
    config: TokenConfigs, sessions: KbsSessions, stack: AsyncExitStack
) -> NamedKbs:
    default = None
    by_address: dict[str, ResourceGetter] = {}
    for broker in config.brokers:
        source = await _source(broker, sessions, stack)
        default = source if broker is config.kbs else default
        for url in broker.addresses:
            by_address.setdefault(address_of(url), source)
    return NamedKbs(default, by_address)


async def _source(
    broker: KbsConfig, sessions: KbsSessions, stack: AsyncExitStack
) -> ResourceGetter:
    """Fetch with the agent's own sessions, from whichever of the broker's addresses answers."""
    urls = broker.addresses
    replicas = []
    for url in urls:
        client = KbsClient(
            url,
            broker.tls,
            proxy=broker.proxy,
            retries=STAND_BY_RETRIES if len(urls) > 1 else None,
        )
        await stack.enter_async_context(client)
        keeper = sessions.by_url[client.base_url]
        fetcher = ResourceFetcher(client, keeper, fetch_seconds=FETCH_SECONDS / len(urls))
        stack.callback(fetcher.close)
        replicas.append(Replica(url, fetcher))
    return replicas[0].source if len(replicas) == 1 else FailoverSource(replicas)
