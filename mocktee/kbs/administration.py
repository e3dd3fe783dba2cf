"""The operator's side of the HTTP interface: resources, policies and reference values.

Every handler first asks :class:`~mocktee.kbs.admin.AdminAuthority`; all bodies are Trustee's.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from mocktee.kbs.admin import AdminAuthority
from mocktee.kbs.encoding import Json, b64u_decode, b64u_encode, compact_json, parse_object
from mocktee.kbs.era import Era
from mocktee.kbs.errors import (
    AdminRefusedError,
    FrameworkRefusedError,
    MalformedError,
    PluginAdminRefusedError,
    PolicyEngineError,
    PolicyTextError,
    ReferenceValueError,
    SetPolicyRefusedError,
)
from mocktee.kbs.policies import PolicyBook
from mocktee.kbs.references import ReferenceValues, parse_registration
from mocktee.kbs.resources import ResourceStore

_RESOURCE_POLICY_IDS: Json = ["resource-policy"]


@dataclass(frozen=True, slots=True)
class Administration:
    """The handlers, and the parts they change."""

    era: Era
    authority: AdminAuthority
    resources: ResourceStore
    policies: PolicyBook
    references: ReferenceValues

    async def put_resource(self, request: web.Request, segments: list[str]) -> web.Response:
        """POST /kbs/v0/resource/R/T/TAG: the body is the secret."""
        segments = self.era.routed(segments)
        self._check_plugin(request)
        self.resources.put(self.era.stored(segments), await request.read())
        return web.Response(content_type="text/xml" if self.era.plugins else "application/json")

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
        """GET /kbs/v0/resource-policy: identifiers of policies; up to v0.18 the policy."""
        if not self.era.plugins:
            raise FrameworkRefusedError(405)
        self._check(request, "resource-policy")
        if not self.era.reference_values:
            text = b64u_encode(self.policies.resource_policy.encode())
            return web.Response(body=text.encode(), content_type="text/xml")
        return _json(_RESOURCE_POLICY_IDS)

    async def set_attestation_policy(self, request: web.Request) -> web.Response:
        """POST /kbs/v0/attestation-policy: one identifier is evaluated, others are only taken.

        From v0.11 to v0.14 everybody may.
        """
        body = await request.read()
        if self.era.framework_parses:
            try:
                _attestation_policy(body)
            except ValueError as error:
                raise FrameworkRefusedError(400, f"Json deserialize error: {error}") from error
        if self.era.attestation_policy_guarded:
            self._check(request, "attestation-policy")
        try:
            identifier, text = _attestation_policy(body)
            if identifier == self.era.attestation_policy_id:
                self.policies.set_attestation_policy(text)
        except (ValueError, PolicyEngineError) as error:
            raise SetPolicyRefusedError(str(error)) from error
        return web.Response()

    async def register_reference_values(self, request: web.Request) -> web.Response:
        """POST /kbs/v0/reference-value."""
        self._check(request, "reference-value")
        self.references.register_document(parse_registration(await request.read()))
        return web.Response(content_type="application/json")

    async def get_reference_value(self, request: web.Request) -> web.Response:
        """GET /kbs/v0/reference-value/ID: the good values, in the form they were registered."""
        self._check(request, "reference-value")
        name = request.match_info["id"]
        value = self.references.as_registered(name)
        if value is None:
            raise ReferenceValueError(
                "Failed to get reference_values: "
                f"No reference value found for the given id: {name[:64]}"
            )
        return _json(value)

    def check_control(self, request: web.Request) -> None:
        """Refuse a call of the mock's own control interface without the admin token."""
        try:
            self.authority.check_token(request.headers.get("Authorization"), request.path)
        except ValueError as error:
            raise AdminRefusedError("mock", str(error)) from error

    def _check(self, request: web.Request, endpoint: str) -> None:
        try:
            self.authority.check(request.headers.get("Authorization"), request.path)
        except ValueError as error:
            raise AdminRefusedError(endpoint, str(error)) from error

    def _check_plugin(self, request: web.Request) -> None:
        try:
            self.authority.check(request.headers.get("Authorization"), request.path)
        except ValueError as error:
            raise PluginAdminRefusedError(str(error)) from error


def _attestation_policy(body: bytes) -> tuple[str, str]:
    identifier = parse_object(body).get("policy_id")
    if not isinstance(identifier, str):
        raise MalformedError("missing field `policy_id`")
    return identifier, _policy_text(body)


def _policy_text(body: bytes) -> str:
    policy = parse_object(body).get("policy")
    if not isinstance(policy, str):
        raise MalformedError("No `policy` field inside SetPolicy Request Json")
    return b64u_decode(policy).decode()


def _json(document: Json) -> web.Response:
    return web.Response(body=compact_json(document), content_type="application/json")
