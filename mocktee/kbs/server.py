"""A mock KBS in this process: composition, listening and the operator's calls without HTTP."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from aiohttp import web
from cryptography import x509

from mocktee.certs import LocalTls, provide_tls
from mocktee.kbs.admin import AdminAuthority
from mocktee.kbs.administration import Administration
from mocktee.kbs.authenticate import CollateralSource, QuoteAuthenticator
from mocktee.kbs.counters import Counters
from mocktee.kbs.era import HEAD, TokenForm, era_of
from mocktee.kbs.errors import EraOptionError
from mocktee.kbs.faults import FaultPlan
from mocktee.kbs.jws import VerifyingKey
from mocktee.kbs.policies import PolicyBook
from mocktee.kbs.protocol import KbsProtocol
from mocktee.kbs.references import ReferenceValues
from mocktee.kbs.resources import ResourceStore
from mocktee.kbs.routes import Parts, build_application
from mocktee.kbs.sessions import SessionStore
from mocktee.kbs.signer import SignerIdentity
from mocktee.kbs.simple_token import SimpleTokenSigner
from mocktee.kbs.token import TokenIssuer, TokenSigner
from mocktee.kbs.trust import TokenVerifier
from mocktee.kbs.verifier import Verifier

DRAIN_SECONDS: Final = 1.0
# A token carries the whole event log; actix-http takes heads of this size.
MAX_HEADER: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class KbsOptions:
    """Settings of one mock KBS; the defaults are Trustee's, but for ``verbose_refusals``.

    ``verbose_refusals`` appends the reason of a refusal to the ``detail`` of its error document;
    Trustee keeps it to its own log. ``era`` is one of ``mocktee.kbs.era.ERAS``; ``simple_token``
    is for those whose attestation service could issue either form. ``identity`` signs tokens that
    another KBS can trust, ``trusted_certificates`` and ``insecure_header_jwk`` make this one trust
    the tokens of others (passport model).
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = True
    dns_names: tuple[str, ...] = ()
    token_seconds: int = 300
    session_seconds: float = 300.0
    body_limit: int = 2 * 1024 * 1024
    verbose_refusals: bool = True
    admin_keys: Sequence[VerifyingKey] = ()
    admin_open_to_all: bool = False
    era: str = HEAD.name
    simple_token: bool = False
    identity: SignerIdentity | None = None
    trusted_certificates: Sequence[x509.Certificate] = ()
    insecure_header_jwk: bool = False
    clock: Callable[[], float] = time.time


class MockKbs:
    """A running mock KBS. Make one with :meth:`start`."""

    def __init__(self, state: Path, pki: CollateralSource, options: KbsOptions) -> None:
        self.options = options
        self.era = era_of(options.era)
        self.counters = Counters()
        self.faults = FaultPlan()
        self.references = ReferenceValues()
        self.resources = ResourceStore()
        self.policies = PolicyBook(self.references, self.era)
        self.sessions = SessionStore(life_seconds=options.session_seconds, clock=options.clock)
        self._issuer = self._make_issuer()
        self._authority = AdminAuthority(
            options.admin_keys,
            options.clock,
            needs_role=self.era.admin_role,
            open_to_all=options.admin_open_to_all,
        )
        self._verifier = Verifier(
            QuoteAuthenticator(pki, options.clock),
            self.references,
            sample_claims=self.era.sample_claims,
        )
        self._state = state
        self._runner: web.AppRunner | None = None
        self.tls: LocalTls | None = None
        self.url = ""
        self.admin_token_file = state

    @classmethod
    def start(
        cls, state: Path, pki: CollateralSource, options: KbsOptions | None = None
    ) -> StartingKbs:
        """Start a mock KBS: ``async with MockKbs.start(...)`` or ``await MockKbs.start(...)``.

        ``state`` gets the admin token and, with TLS, the local authority and server certificate.
        Awaited, the caller owes :meth:`aclose`.
        """
        return StartingKbs(cls(state, pki, options or KbsOptions()))

    @property
    def ca_file(self) -> Path | None:
        """The PEM file a client has to trust; ``None`` without TLS."""
        return None if self.tls is None else self.tls.ca

    @property
    def admin_token(self) -> str:
        """The bearer token for the admin and control interfaces."""
        return self._authority.token

    def put_resource(self, path: str, content: bytes) -> None:
        """Store a secret under ``repository/type/tag``."""
        self.resources.put(path.split("/"), content)

    def delete_resource(self, path: str) -> None:
        """Remove a secret."""
        self.resources.delete(path.split("/"))

    def set_resource_policy(self, text: str) -> None:
        """Replace the resource policy by a Rego text; see also ``rego.shipped_policy``."""
        self.policies.set_resource_policy(text)

    def set_reference_values(self, **values: Sequence[str]) -> None:
        """Register good values, hex but for ``tcb_status``; an empty list ends the comparison."""
        self.references.register(values)

    async def aclose(self) -> None:
        """Stop listening, give live requests a second, close. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def listen(self) -> None:
        """Bind, then serve. :meth:`start` calls this; raises ``OSError`` when it cannot bind."""
        self._state.mkdir(parents=True, exist_ok=True)
        self.admin_token_file = self._authority.save_token(self._state)
        runner = web.AppRunner(
            build_application(self._parts()),
            access_log=None,
            shutdown_timeout=DRAIN_SECONDS,
            max_field_size=MAX_HEADER,
        )
        await runner.setup()
        self._runner = runner
        try:
            context = self._tls_context()
            listener = socket.create_server((self.options.host, self.options.port))
            await web.SockSite(runner, listener, ssl_context=context).start()
        except BaseException:  # cleaned up and passed on, cancellation included
            await self.aclose()
            raise
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://{self.options.host}:{listener.getsockname()[1]}"

    def _make_issuer(self) -> TokenIssuer:
        options, form = self.options, self.era.token
        if options.simple_token and form is TokenForm.EAR:
            if self.era.simple_token is None:
                raise EraOptionError(self.era.name, "simple tokens")
            form = self.era.simple_token
        if form is TokenForm.EAR:
            return TokenSigner(
                life_seconds=options.token_seconds,
                clock=options.clock,
                submodule=self.era.submodule,
                full_claims=self.era.full_claims,
                identity=options.identity,
            )
        if options.identity is not None:
            raise EraOptionError(self.era.name, "an identity of the token signer")
        return SimpleTokenSigner(form, life_seconds=options.token_seconds, clock=options.clock)

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self.options.tls:
            return None
        self.tls = provide_tls(self._state, dns_names=self.options.dns_names)
        return self.tls.server_context()

    def _parts(self) -> Parts:
        options = self.options
        return Parts(
            era=self.era,
            protocol=KbsProtocol(
                era=self.era,
                sessions=self.sessions,
                verifier=self._verifier,
                issuer=self._issuer,
                tokens=TokenVerifier(
                    self._issuer.public_key,
                    options.clock,
                    anchors=options.trusted_certificates,
                    insecure_header_jwk=options.insecure_header_jwk,
                ),
                policies=self.policies,
                resources=self.resources,
                counters=self.counters,
            ),
            administration=Administration(
                era=self.era,
                authority=self._authority,
                resources=self.resources,
                policies=self.policies,
                references=self.references,
            ),
            sessions=self.sessions,
            faults=self.faults,
            counters=self.counters,
            body_limit=options.body_limit,
            verbose_refusals=options.verbose_refusals,
        )


class StartingKbs:
    """A mock KBS that is about to start: await it, or enter it."""

    def __init__(self, kbs: MockKbs) -> None:
        self._kbs = kbs

    def __await__(self) -> Generator[object, None, MockKbs]:
        return self._start().__await__()

    async def __aenter__(self) -> MockKbs:
        return await self._start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._kbs.aclose()

    async def _start(self) -> MockKbs:
        await self._kbs.listen()
        return self._kbs
