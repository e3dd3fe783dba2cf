"""Full names of the services, once for stubs and tables."""

from __future__ import annotations

from typing import Final

ATTESTATION_AGENT: Final = "attestation_agent.AttestationAgentService"
ATTESTATION_STATUS: Final = "cguest.v1.AttestationStatusService"
CONTAINER: Final = "cguest.v1.ContainerService"
GET_RESOURCE: Final = "api.GetResourceService"
GET_RESOURCE_V0_8: Final = "getresource.GetResourceService"
HUB_STATUS: Final = "cguest.v1.HubStatusService"
IMAGE_PULL: Final = "api.ImagePullService"
KEY_PROVIDER: Final = "keyprovider.KeyProviderService"
MOUNT: Final = "cguest.v1.MountService"
SEALED_SECRET: Final = "api.SealedSecretService"  # noqa: S105 - a service's name
SECURE_MOUNT: Final = "api.SecureMountService"
