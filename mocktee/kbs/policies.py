"""The two policies of the service: who may read which resource, and how far evidence is trusted.

Resource policy: rule ``data.policy.allow``; ``data`` is ``{"plugin", "resource-path", "query"}``
or what the era has instead, and ``input`` the claims of the token. Anything but the value true
denies, or is an error where the era says so.

Attestation policy: rule ``data.policy.trust_claims``; ``data`` is ``{"reference": {name: values}}``
and ``input`` the verifier's claims. Trustee's own texts get at reference values with an extension
function ``query_reference_value`` instead; it is added to the policy as a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mocktee.kbs.encoding import Json
from mocktee.kbs.era import HEAD, Era, PolicyData
from mocktee.kbs.errors import PolicyEngineError
from mocktee.kbs.references import COMPARABLE, ReferenceValues
from mocktee.kbs.rego import RegoPolicy, shipped_policy

PLUGIN: Final = "resource"
_ALLOW: Final = "data.policy.allow"
_QUERY: Final = "query_reference_value("
_QUERY_RULE: Final = """

query_reference_value(name) := object.get(data.queried, name, null)
"""
_TRUST_CLAIMS: Final = "data.policy.trust_claims"


class PolicyBook:
    """The policies in force."""

    def __init__(self, references: ReferenceValues, era: Era = HEAD) -> None:
        self._references = references
        self._era = era
        self.resource_policy = shipped_policy(era.default_policy)
        self._resource: RegoPolicy | None = RegoPolicy(self.resource_policy, _ALLOW)
        self._attestation = RegoPolicy(shipped_policy("appraisal"), _TRUST_CLAIMS)

    def set_resource_policy(self, text: str) -> None:
        """Replace the resource policy. Raises ``PolicyEngineError``; the old one stays then.

        Servers that do not check it take any text, and fail when they use it.
        """
        try:
            self._resource = RegoPolicy(text, _ALLOW)
        except PolicyEngineError:
            if self._era.checks_policies:
                raise
            self._resource = None
        self.resource_policy = text

    def set_attestation_policy(self, text: str) -> None:
        """Replace the attestation policy. Raises ``PolicyEngineError``; the old one stays then."""
        if _QUERY in text:
            text += _QUERY_RULE
        self._attestation = RegoPolicy(text, _TRUST_CLAIMS)

    def allows(
        self, segments: Sequence[str], query: Mapping[str, str], claims: Mapping[str, Json]
    ) -> bool:
        """Return whether a guest with these claims may read this resource."""
        if self._resource is None:
            raise PolicyEngineError("Failed to load resource policy")
        data = policy_data(self._era.policy_data, segments, query)
        allowed = self._resource.evaluate(data, claims)
        if not isinstance(allowed, bool) and not self._era.undefined_denies:
            raise PolicyEngineError('Policy Engine output must contain "allow" boolean value')
        # trustee src/api/src/http/resource.rs at v0.8.0 drops the verdict
        return allowed is True or not self._era.denials

    def appraise(self, claims: Mapping[str, Json]) -> dict[str, Json]:
        """Return the trust vector for these claims. Raises ``PolicyEngineError``."""
        reference: dict[str, Json] = {
            name: list(self._references.get(name)) for name in sorted(COMPARABLE)
        }
        queried: dict[str, Json] = {
            name: self._references.as_registered(name) for name in sorted(COMPARABLE)
        }
        data: dict[str, Json] = {"reference": reference, "queried": queried}
        vector = self._attestation.evaluate(data, claims)
        if not isinstance(vector, dict) or not all(isinstance(v, int) for v in vector.values()):
            raise PolicyEngineError("rule trust_claims is not a map from names to integers")
        return vector


def policy_data(
    form: PolicyData, segments: Sequence[str], query: Mapping[str, str]
) -> dict[str, Json]:
    """Return the ``data`` of a resource policy."""
    path = "/".join(segments)
    match form:
        case PolicyData.PATH:
            return {"resource-path": path}
        case PolicyData.PLUGIN_AND_PATH:
            return {"resource-path": f"{PLUGIN}/{path}"}
        case PolicyData.SEGMENTS:
            return {"plugin": PLUGIN, "resource-path": list(segments), "query": dict(query)}
