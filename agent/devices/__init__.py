"""Devices of this guest that attest beside the TEE: a module for each kind, named here.

A device's evidence travels through the KBS protocol 0.4.0 as additional evidence and is covered
by the TEE's own; older protocols have no place for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final

from agent.attester import DeviceAttester
from agent.devices.sample_device import SampleDevice


class DeviceName(StrEnum):
    """Kinds of device, as the KBS protocol and ``[tee] devices`` name them."""

    SAMPLE_DEVICE = "sampledevice"


_KINDS: Final[Mapping[DeviceName, Callable[[], DeviceAttester]]] = {
    DeviceName.SAMPLE_DEVICE: SampleDevice,
}


def open_devices(names: Iterable[DeviceName]) -> tuple[DeviceAttester, ...]:
    """Return the attesters of the named kinds, each once."""
    return tuple(_KINDS[name]() for name in dict.fromkeys(names))
