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
from secrecy.journal import get_logger

log = get_logger("agent")


class DeviceName(StrEnum):
    """Kinds of device, as the KBS protocol and ``[tee] devices`` name them."""

    SAMPLE_DEVICE = "sampledevice"


_KINDS: Final[Mapping[DeviceName, Callable[[], DeviceAttester]]] = {
    DeviceName.SAMPLE_DEVICE: SampleDevice,
}


def open_devices(names: Iterable[DeviceName]) -> tuple[DeviceAttester, ...]:
    """Return the attesters of the named kinds, each once; say what they are worth."""
    devices = tuple(_KINDS[name]() for name in dict.fromkeys(names))
    if devices:
        log.info(
            "devices attest beside the TEE",
            devices=[device.name for device in devices],
            hint="KBS protocols before 0.4.0 have no place for their evidence",
        )
    if any(isinstance(device, SampleDevice) for device in devices):
        log.warning("the device sampledevice proves nothing", reason="tee.devices")
    return devices
