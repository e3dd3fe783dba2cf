"""One invocation: prestart delivers or stops the container, poststop removes its mounts.

Standard output and error end in the agent's log, which is the host's to read, so they get one
fixed line that names the container. The reason goes to the hub.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Final

from guesthook.beneath import read_config
from guesthook.bounded_work import run_bounded
from guesthook.errors import DeliveryError, HookError, HookSettingsError, StateError
from guesthook.init_process import InitProcess
from guesthook.plan import Plan, make_plan
from guesthook.settings import HookSettings, load_settings
from guesthook.spec import ContainerSpec, parse_spec
from guesthook.state import MAX_STATE, ContainerState, parse_state

# Of the agent's 10 seconds; the rest is for starting and ending.
WORK_SECONDS: Final = 7.0
KILL_SECONDS: Final = 0.5
REPORT_SECONDS: Final = 1.2


class Invocation:
    """One run of the hook. ``settings_path`` and ``kernel_log`` are fixed in a guest."""

    def __init__(self, settings_path: str, kernel_log: str) -> None:
        self._settings_path = settings_path
        self._kernel_log = kernel_log

    def run(self, kind: str, document: bytes) -> int:
        """Do what ``kind`` asks for with the state in ``document``; return the exit code."""
        try:
            state = parse_state(document)
        except StateError:
            _say("state refused; no container was examined")
            return 1
        if kind == "poststop":
            return self._poststop(state)
        return self._prestart(state)

    def _prestart(self, state: ContainerState) -> int:
        settings = HookSettings()
        try:
            settings = load_settings(self._settings_path)
            spec = parse_spec(read_config(state.bundle, settings.bundle_roots), state.bundle)
            plan = make_plan(spec, settings)
            if not plan.is_empty():
                init = InitProcess.identify(state)
                run_bounded(
                    "hook", WORK_SECONDS, lambda: _deliver(state, settings, init, spec, plan)
                )
                init.check_alive()
        except HookError as error:
            self._refuse(state, settings, error)
            return 1
        except Exception as error:  # noqa: BLE001 - whatever failed, the container must not run
            self._refuse(state, settings, DeliveryError("hook", type(error).__name__))
            return 1
        return 0

    def _refuse(self, state: ContainerState, settings: HookSettings, error: HookError) -> None:
        """Stop the container, then say why where that can be said."""
        try:
            init = InitProcess.identify(state)
            init.kill(KILL_SECONDS)
            outcome = "secret refused, stopped"
        except HookError:
            outcome = "secret refused, could not be stopped"
        try:
            run_bounded("report", REPORT_SECONDS, lambda: _report(state, settings, error))
        except (HookError, OSError):  # OSError: not even a child could be started
            self._tell_kernel_log(f"container {state.id}: {outcome}")
        _say(f"container {state.id}: {outcome}")

    def _poststop(self, state: ContainerState) -> int:
        try:
            settings = load_settings(self._settings_path)
        except HookSettingsError:
            settings = HookSettings()
        if not os.path.lexists(f"{settings.oss_root}/{state.id}"):
            return 0
        try:
            run_bounded("oss", WORK_SECONDS, lambda: _remove_mounts(state, settings))
        except (HookError, OSError):
            _say(f"container {state.id}: mounts remain")
            return 1
        return 0

    def _tell_kernel_log(self, text: str) -> None:
        """The last resort, and host-visible: nothing but the id, which the host chose."""
        with suppress(OSError):
            log = os.open(self._kernel_log, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(log, f"<4>cguest-hook: {text}\n".encode())
            finally:
                os.close(log)


def read_state(stream: int) -> bytes:
    """Read standard input to its end, one byte more than allowed at most."""
    content = b""
    while len(content) <= MAX_STATE and (chunk := os.read(stream, 65536)):
        content += chunk
    return content


def _say(text: str) -> None:
    os.write(sys.stderr.fileno(), f"cguest-hook: {text}\n".encode())


def _deliver(
    state: ContainerState,
    settings: HookSettings,
    init: InitProcess,
    spec: ContainerSpec,
    plan: Plan,
) -> None:
    from guesthook.volumes import sealed_among

    plan = replace(plan, volumes=sealed_among(plan.volumes, settings.shared_roots))
    if plan.is_empty():
        return
    # Imported here: only a container with something to unseal pays for it.
    import asyncio
    from contextlib import ExitStack

    from guesthook.delivery import Delivery
    from guesthook.hub import Hub

    async def work() -> None:
        # A little less than the parent waits, so that the reason is ours and mounts are undone.
        deadline = asyncio.get_running_loop().time() + WORK_SECONDS - 1.0
        with ExitStack() as stack:
            async with Hub(settings.hub_socket, deadline) as hub:
                await Delivery(state, settings, hub, stack).deliver(init, spec, plan)

    asyncio.run(work())


def _report(state: ContainerState, settings: HookSettings, error: HookError) -> None:
    import asyncio

    from guesthook.hub import Hub

    async def work() -> None:
        deadline = asyncio.get_running_loop().time() + REPORT_SECONDS
        async with Hub(settings.hub_socket, deadline) as hub:
            await hub.report(state.id, error.subject, error.reason)
            directory = f"{settings.oss_root}/{state.id}"
            if os.path.lexists(directory):
                await hub.unmount_below("oss", directory)

    asyncio.run(work())


def _remove_mounts(state: ContainerState, settings: HookSettings) -> None:
    import asyncio

    from guesthook.hub import Hub

    async def work() -> None:
        deadline = asyncio.get_running_loop().time() + WORK_SECONDS
        async with Hub(settings.hub_socket, deadline) as hub:
            await hub.unmount_below("oss", f"{settings.oss_root}/{state.id}")

    asyncio.run(work())
