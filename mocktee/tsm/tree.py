"""Directories and attributes with their inode numbers, and which of them exist at the start.

Owns names, modes, sizes and lookup counts. What is inside a file is ``files``', what a system call
may do is ``operations``'.
"""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from mocktee.bootlog import DIGEST_BYTES, LOG_AREA_BYTES, TABLE_BYTES, ccel_table
from mocktee.td import RTMR_COUNT, TdState
from mocktee.tsm.ccel_forms import FORMS
from mocktee.tsm.files import (
    BlobFile,
    FixedFile,
    InblobFile,
    OpenFile,
    RegisterFile,
    StoredText,
    TextFile,
)
from mocktee.tsm.subsystem import ReportEntry, ReportSubsystem

ROOT_INODE: Final = 1
TEXT_SIZE: Final = 4096  # what stat shows for a text attribute
BINARY_SIZE: Final = 0
Show = Callable[[ReportEntry], Awaitable[bytes]]
DIRECTORY_MODE: Final = stat.S_IFDIR | 0o755


@dataclass(slots=True, eq=False)
class Node:
    """Something with an inode number. It stays known while the kernel counts lookups of it."""

    inode: int
    mode: int
    size: int = 0
    lookups: int = 0
    detached: bool = False


@dataclass(slots=True, eq=False)
class Directory(Node):
    """``entry`` is set for a report entry, ``holds_entries`` for ``report`` itself."""

    children: dict[bytes, Node] = field(default_factory=dict)
    entry: ReportEntry | None = None
    holds_entries: bool = False


@dataclass(slots=True, eq=False)
class Attribute(Node):
    """A file. ``seekable`` is false for configfs binary attributes."""

    opener: Callable[[], OpenFile] = field(kw_only=True)
    seekable: bool = True

    @property
    def readable(self) -> bool:
        return bool(self.mode & 0o444)

    @property
    def writable(self) -> bool:
        return bool(self.mode & 0o222)


class Tree:
    """All nodes of one mount."""

    def __init__(self, td: TdState, subsystem: ReportSubsystem) -> None:
        self._subsystem = subsystem
        subsystem.on_removal = self.remove_entry
        self._boot_log = td.boot_log
        self._next_inode = ROOT_INODE + 1
        self.root = Directory(ROOT_INODE, DIRECTORY_MODE)
        self._nodes: dict[int, Node] = {ROOT_INODE: self.root}
        tsm = self._directory(self._directory(self.root, b"config"), b"tsm")
        self.report = self._directory(tsm, b"report")
        self.report.holds_entries = True
        if subsystem.provider.profile.registers:
            self._add_measurements(self._directory(self.root, b"measurements"), td)
        self._ccel = self._directory(self.root, b"ccel")
        table = ccel_table()
        self._add(self._ccel, b"CCEL.table", 0o400, lambda: FixedFile(table), TABLE_BYTES)
        self.set_ccel("whole")

    def node(self, inode: int) -> Node | None:
        return self._nodes.get(inode)

    def add_entry(self, entry: ReportEntry) -> Directory:
        """Show an entry that the subsystem has made, with the attributes its provider has."""
        directory = self._directory(self.report, entry.name)
        directory.entry = entry
        subsystem = self._subsystem
        self._add(directory, b"inblob", 0o200, lambda: InblobFile(entry, subsystem), BINARY_SIZE)
        self._add_blob(directory, b"outblob", subsystem.read_outblob)
        self._add_text(directory, b"generation", subsystem.show_generation)
        self._add_text(directory, b"provider", subsystem.show_provider)
        if subsystem.provider.levels:
            self._add_levels(directory)
        return directory

    def _add_levels(self, directory: Directory) -> None:
        """What a provider with privilege levels has besides."""
        subsystem = self._subsystem
        self._add_blob(directory, b"auxblob", subsystem.read_auxblob)
        self._add_text(directory, b"privlevel_floor", subsystem.show_floor)
        stored = [b"privlevel"]
        if subsystem.provider.profile.services:
            self._add_blob(directory, b"manifestblob", subsystem.read_manifestblob)
            stored += [b"service_provider", b"service_guid", b"service_manifest_version"]
        entry = _entry_of(directory)
        for name in stored:
            opener = partial(StoredText, entry, name.decode(), subsystem)
            self._add(directory, name, 0o200, opener, TEXT_SIZE)

    def _add_blob(self, directory: Directory, name: bytes, read: Show) -> None:
        limit = self._subsystem.provider.profile.outblob_max
        opener = partial(BlobFile, _entry_of(directory), read, limit)
        self._add(directory, name, 0o444, opener, BINARY_SIZE)

    def _add_text(self, directory: Directory, name: bytes, show: Show) -> None:
        opener = partial(TextFile, _entry_of(directory), show)
        self._add(directory, name, 0o444, opener, TEXT_SIZE)

    def remove_entry(self, name: bytes) -> None:
        """Let an entry and its attributes vanish; open files keep what they hold."""
        node = self.report.children.pop(name, None)
        if isinstance(node, Directory):
            for child in node.children.values():
                self._detach(child)
            node.children.clear()
            self._detach(node)

    def forget(self, inode: int, count: int) -> None:
        """The kernel drops ``count`` references it got from lookups."""
        node = self._nodes.get(inode)
        if node is None:
            return
        node.lookups -= count
        if node.detached and node.lookups <= 0:
            del self._nodes[inode]

    def _detach(self, node: Node) -> None:
        node.detached = True
        if node.lookups <= 0:
            self._nodes.pop(node.inode, None)

    def _register(self, parent: Directory, name: bytes, node: Node) -> None:
        self._nodes[node.inode] = node
        parent.children[name] = node

    def _inode(self) -> int:
        self._next_inode += 1
        return self._next_inode - 1

    def _directory(self, parent: Directory, name: bytes) -> Directory:
        directory = Directory(self._inode(), DIRECTORY_MODE)
        self._register(parent, name, directory)
        return directory

    def _add(
        self,
        parent: Directory,
        name: bytes,
        permissions: int,
        opener: Callable[[], OpenFile],
        size: int,
    ) -> None:
        seekable = size != BINARY_SIZE
        mode = stat.S_IFREG | permissions
        node = Attribute(self._inode(), mode, size, opener=opener, seekable=seekable)
        self._register(parent, name, node)

    def _add_measurements(self, parent: Directory, td: TdState) -> None:
        """sysfs names: digests carry their algorithm, the other identities do not."""
        names = {f"rtmr{index}:sha384": (f"rtmr{index}", 0o644) for index in range(RTMR_COUNT)}
        names["mrtd:sha384"] = ("mrtd", 0o444)
        names |= {name: (name, 0o444) for name in ("mrconfigid", "mrowner", "mrownerconfig")}
        faults = self._subsystem.faults
        for name, (register, mode) in names.items():

            def opener(register: str = register) -> OpenFile:
                return RegisterFile(td, register, faults)

            self._add(parent, name.encode(), mode, opener, DIGEST_BYTES)

    def set_ccel(self, form: str) -> None:
        """Show the boot log in a form of ``mocktee.tsm.ccel_forms``. ``KeyError`` for another."""
        data = FORMS[form](self._boot_log)
        old = self._ccel.children.pop(b"CCEL", None)
        if old is not None:
            self._detach(old)
        if data is not None:
            size = max(len(data), LOG_AREA_BYTES)
            self._add(self._ccel, b"CCEL", 0o400, lambda: FixedFile(data), size)


def _entry_of(directory: Directory) -> ReportEntry:
    if directory.entry is None:
        raise AssertionError("attributes belong to the directory of an entry")
    return directory.entry
