"""The confidential data hub: resources, sealed secrets and secure mounts for the pod.

Gets secrets from a key broker with the attestation agent's session; never takes a quote itself.
"""

from __future__ import annotations
