"""Doing the plan: everything is obtained before anything becomes visible in the container."""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import ExitStack, suppress
from typing import Final

from guesthook.beneath import open_beneath
from guesthook.container import Attachment, ContainerTree
from guesthook.errors import HookError, RefusedError
from guesthook.hub import Hub
from guesthook.init_process import InitProcess
from guesthook.kernel import clone_mount
from guesthook.plan import OssMount, Plan, SealedVariable, check_alone
from guesthook.private_files import private_tree
from guesthook.settings import HookSettings
from guesthook.spec import ContainerSpec, Mount
from guesthook.state import ContainerState
from guesthook.volumes import MARK, Entry, File, Owner, single_file, snapshot
from secrecy import Secret

VARIABLES: Final = "/run/secrets/cguest-env"
SHELL_FILE: Final = "env.sh"  # no variable can have this name
ONE_FILE: Final = "file"
_READABLE: Final = Owner(0o444, 0, 0)
_DIRECTORY: Final = Owner(0o755, 0, 0)


def oss_directory(state: ContainerState, settings: HookSettings) -> str:
    """Return where the hub mounts for this container."""
    return f"{settings.oss_root}/{state.id}"


class Delivery:
    """One container's delivery. Descriptors are closed by ``stack``."""

    def __init__(
        self,
        state: ContainerState,
        settings: HookSettings,
        hub: Hub,
        stack: ExitStack,
    ) -> None:
        self._state = state
        self._settings = settings
        self._hub = hub
        self._stack = stack

    async def deliver(self, init: InitProcess, spec: ContainerSpec, plan: Plan) -> None:
        """Deliver all of ``plan``, whose volumes hold sealed files, or raise :class:`HookError`;
        then no mount of ours remains."""
        tree = ContainerTree.open(init, spec.root)
        try:
            attachments = []
            for mount in plan.volumes:
                check_alone(mount, spec.mounts)
                attachments.append(await self._volume(tree, mount))
            if plan.variables:
                attachments.append(await self._variables(tree, plan.variables))
            attachments += [await self._oss_mount(tree, asked) for asked in plan.oss_mounts]
            tree.attach(attachments)
        except BaseException:  # cleaned up and passed on
            if plan.oss_mounts:
                with suppress(HookError):  # poststop and the report try again
                    await self._hub.unmount_below("oss", oss_directory(self._state, self._settings))
            raise

    async def _volume(self, tree: ContainerTree, mount: Mount) -> Attachment:
        subject = f"volume {mount.destination}"
        volume = open_beneath(mount.source, self._settings.shared_roots)
        self._stack.callback(os.close, volume)
        status = os.fstat(volume)
        # The runtime's own mount and nothing an image could have put there.
        target = tree.existing(subject, mount.destination)
        self._stack.callback(os.close, target)
        if not os.path.samestat(os.fstat(target), status):
            raise RefusedError(subject, "its destination in the container is something else")
        entries: list[Entry]
        if stat.S_ISDIR(status.st_mode):
            entries, owner, inner = snapshot(subject, volume), Owner.of(status), None
        else:
            entries, owner, inner = [single_file(subject, volume, ONE_FILE)], _DIRECTORY, ONE_FILE
        opened = {
            entry.path: await self._hub.unseal(f"{subject}/{entry.path}", entry.content.strip())
            for entry in entries
            if isinstance(entry, File) and entry.is_sealed()
        }
        files = self._memory(subject, entries, owner, opened)
        return Attachment(subject, mount.destination, files, target, inner)

    async def _variables(
        self, tree: ContainerTree, variables: tuple[SealedVariable, ...]
    ) -> Attachment:
        target = tree.empty_directory("environment", VARIABLES)
        self._stack.callback(os.close, target)
        opened: dict[str, Secret] = {}
        lines = []
        for variable in variables:
            subject = f"environment {variable.name}"
            value = await self._hub.unseal(subject, variable.sealed.encode())
            lines.append(_shell_line(subject, variable.name, value))
            opened[variable.name] = value
        opened[SHELL_FILE] = Secret("".join(lines))
        marked = [File(name, _READABLE, MARK) for name in opened]
        files = self._memory("environment", list(marked), _DIRECTORY, opened)
        return Attachment("environment", VARIABLES, files, target)

    def _memory(
        self, subject: str, entries: list[Entry], owner: Owner, opened: dict[str, Secret]
    ) -> int:
        tree = private_tree(subject, entries, owner, lambda file: opened[file.path])
        self._stack.callback(os.close, tree)
        return tree

    async def _oss_mount(self, tree: ContainerTree, mount: OssMount) -> Attachment:
        subject = f"oss-mount {mount.name}"
        target = tree.empty_directory(subject, mount.target)
        self._stack.callback(os.close, target)
        place = f"{oss_directory(self._state, self._settings)}/{mount.name}"
        await self._hub.mount(subject, mount.options, place)
        mounted = open_beneath(place, (self._settings.oss_root,))
        try:
            copy = clone_mount(mounted)
        except OSError as error:
            raise RefusedError(subject, "the mount is gone again") from error
        finally:
            os.close(mounted)
        self._stack.callback(os.close, copy)
        return Attachment(subject, mount.target, copy, target)


def _shell_line(subject: str, name: str, value: Secret) -> str:
    try:
        text = value.reveal_text()
    except ValueError as error:
        raise RefusedError(subject, "its value is not UTF-8 text") from error
    if "\0" in text:
        raise RefusedError(subject, "its value holds a zero byte")
    return f"export {name}={shlex.quote(text)}\n"
