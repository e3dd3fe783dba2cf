"""The operator's side of the HTTP interface: resources, policies and reference values.

Every handler first asks :class:`~mocktee.kbs.admin.AdminAuthority`; all bodies are Trustee's.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from mocktee.kbs.admin import AdminAuthority
from mocktee.kbs.encoding import Json, b64u_decode, compact_json, parse_object
from mocktee.kbs.errors import (
    AdminRefusedError,
    MalformedError,
    PluginAdminRefusedError,
    PolicyEngineError,
    PolicyTextError,
    SetPolicyRefusedError,
)
from mocktee.kbs.policies import ATTESTATION_POLICY_ID, PolicyBook
from mocktee.kbs.references import ReferenceValues, parse_registration
from mocktee.kbs.resources import ResourceStore

_RESOURCE_POLICY_IDS: Json = ["resource-policy"]


@dataclass(frozen=True, slots=True)
class Administration:
    """The handlers, and the parts they change."""

    authority: AdminAuthority
    resources: ResourceStore
    policies: PolicyBook
    references: ReferenceValues

    async def put_resource(self, request: web.Request, segments: list[str]) -> web.Response:
        """POST /kbs/v0/resource/R/T/TAG: the body is the secret."""
        self._check_plugin(request)
        self.resources.put(segments, await request.read())
        return web.Response(content_type="text/xml")

    async def delete_resource(self, request: web.Request, segments: list[str]) -> web.Response:
        """DELETE /kbs/v0/resource/R/T/TAG."""
        self._check_plugin(request)
        self.resources.delete(segments)
        return web.Response(content_type="text/xml")

    async def set_resource_policy(self, request: web.Request) -> web.Response:
        """POST /kbs/v0/resource-policy: ``{"policy": "<URL-safe base64 of Rego>"}``."""
        self._check(request, "resource-policy")
        try:
            text = _policy_text(await request.read())
        except ValueError as error:
            raise PolicyTextError(str(error)) from error
        self.policies.set_resource_policy(text)
        return web.Response()

    async def list_resource_policies(self, request: web.Request) -> web.Response:
        """GET /kbs/v0/resource-policy: the identifiers of policies, of which there is one."""
        self._check(request, "resource-policy")
        return _json(_RESOURCE_POLICY_IDS)

    async def set_attestation_policy(self, request: web.Request) -> web.Response:
        """POST /kbs/v0/attestation-policy; only the identifier ``default_cpu`` is evaluated."""
        self._check(request, "attestation-policy")
        try:
            body = await request.read()
            identifier = parse_object(body).get("policy_id")
            if identifier != ATTESTATION_POLICY_ID:
                raise MalformedError(f"policy_id is not {ATTESTATION_POLICY_ID}")
            self.policies.set_attestation_policy(_policy_text(body))
        except (ValueError, PolicyEngineError) as error:
            raise SetPolicyRefusedError(str(error)) from error
        return web.Response()

    async def register_reference_values(self, request: web.Request) -> web.Response:
        """POST /kbs/v0/reference-value."""
        self._check(request, "reference-value")
        self.references.register(parse_registration(await request.read()))
        return web.Response(content_type="application/json")

    async def get_reference_value(self, request: web.Request) -> web.Response:
        """GET /kbs/v0/reference-value/ID: the good values; null when none are registered."""
        self._check(request, "reference-value")
        values = self.references.get(request.match_info["id"])
        return _json(list(values) or None)

    def check_control(self, request: web.Request) -> None:
        """Refuse a call of the mock's own control interface without the admin token."""
        self._check(request, "mock")

    def _check(self, request: web.Request, endpoint: str) -> None:
        try:
            self.authority.check(request.headers.get("Authorization"))
        except ValueError as error:
            raise AdminRefusedError(endpoint, str(error)) from error

    def _check_plugin(self, request: web.Request) -> None:
        try:
            self.authority.check(request.headers.get("Authorization"))
        except ValueError as error:
            raise PluginAdminRefusedError(str(error)) from error


def _policy_text(body: bytes) -> str:
    policy = parse_object(body).get("policy")
    if not isinstance(policy, str):
        raise MalformedError("No `policy` field inside SetPolicy Request Json")
    return b64u_decode(policy).decode()


def _json(document: Json) -> web.Response:
    return web.Response(body=compact_json(document), content_type="application/json")
