"""The two policies of the service: who may read which resource, and how far evidence is trusted.

Resource policy: rule ``data.policy.allow``; ``data`` is ``{"plugin", "resource-path", "query"}``
and ``input`` the claims of the token. Anything but the value true denies.

Attestation policy: rule ``data.policy.trust_claims``; ``data`` is ``{"reference": {name: values}}``
and ``input`` the verifier's claims. Trustee's own text gets at reference values with an extension
function ``query_reference_value`` instead, so its text does not run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mocktee.kbs.encoding import Json
from mocktee.kbs.errors import PolicyEngineError
from mocktee.kbs.references import COMPARABLE, ReferenceValues
from mocktee.kbs.rego import RegoPolicy, shipped_policy

PLUGIN: Final = "resource"
ATTESTATION_POLICY_ID: Final = "default_cpu"
_ALLOW: Final = "data.policy.allow"
_TRUST_CLAIMS: Final = "data.policy.trust_claims"


class PolicyBook:
    """The policies in force."""

    def __init__(self, references: ReferenceValues) -> None:
        self._references = references
        self._resource = RegoPolicy(shipped_policy("default"), _ALLOW)
        self._attestation = RegoPolicy(shipped_policy("appraisal"), _TRUST_CLAIMS)

    def set_resource_policy(self, text: str) -> None:
        """Replace the resource policy. Raises ``PolicyEngineError``; the old one stays then."""
        self._resource = RegoPolicy(text, _ALLOW)

    def set_attestation_policy(self, text: str) -> None:
        """Replace the attestation policy. Raises ``PolicyEngineError``; the old one stays then."""
        self._attestation = RegoPolicy(text, _TRUST_CLAIMS)

    def allows(
        self, segments: Sequence[str], query: Mapping[str, str], claims: Mapping[str, Json]
    ) -> bool:
        """Return whether a guest with these claims may read this resource."""
        data: dict[str, Json] = {
            "plugin": PLUGIN,
            "resource-path": list(segments),
            "query": dict(query),
        }
        return self._resource.evaluate(data, claims) is True

    def appraise(self, claims: Mapping[str, Json]) -> dict[str, Json]:
        """Return the trust vector for these claims. Raises ``PolicyEngineError``."""
        reference: dict[str, Json] = {
            name: list(self._references.get(name)) for name in sorted(COMPARABLE)
        }
        vector = self._attestation.evaluate({"reference": reference}, claims)
        if not isinstance(vector, dict) or not all(isinstance(v, int) for v in vector.values()):
            raise PolicyEngineError("rule trust_claims is not a map from names to integers")
        return vector
