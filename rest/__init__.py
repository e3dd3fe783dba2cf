"""The REST server of the guest: attestation and resources for workloads, over loopback HTTP.

Wire-compatible with api-server-rest of guest-components. Holds no keys and no session: every
request goes to a backend, over ttRPC or in the same process.
"""

from __future__ import annotations
