"""The life of a service process: settings, sockets, readiness, signals and an orderly end.

The same for every entry point; knows nothing of what the services do.
"""

from __future__ import annotations

from lifecycle.errors import AddressInUseError, LifecycleError, SettingsError, SocketError
from lifecycle.readiness import Readiness
from lifecycle.routes import RouteEvents
from lifecycle.run import Shutdown, run_service
from lifecycle.sockets import ListeningSocket, PassedSockets, UnixAddress, listen_unix

__all__ = [
    "AddressInUseError",
    "LifecycleError",
    "ListeningSocket",
    "PassedSockets",
    "Readiness",
    "RouteEvents",
    "SettingsError",
    "Shutdown",
    "SocketError",
    "UnixAddress",
    "listen_unix",
    "run_service",
]
