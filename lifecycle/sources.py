"""Settings from several sources, each value together with where it came from.

Later sources win: built-in default, kernel command line or environment, file, flag. What a key
means, and which variable or parameter sets it, belongs to each program. Here is also the rule that
what weakens security may only come from a source that attestation covers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

import msgspec

from lifecycle.errors import SettingsError, UnmeasuredSettingError
from lifecycle.settings import Tree, problem_of

T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True)
_PLACE: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_PART: Final = re.compile(r"[^.\[\]]+|\[\d+\]")


class SourceKind(StrEnum):
    """Kinds of source, in the words that people see."""

    DEFAULT = "built-in default"
    KERNEL = "kernel command line"
    ENVIRONMENT = "environment"
    FILE = "file"
    FLAG = "flag"


_UNMEASURED: Final = {
    SourceKind.ENVIRONMENT: "no measurement covers the environment",
    SourceKind.FLAG: "no measurement covers the arguments of a process",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value is from. ``doubt`` says why a file is not one that is measured at launch.

    The kernel command line counts as measured: it is in RTMR[2], so that a verifier sees it,
    although the host writes it.
    """

    kind: SourceKind
    name: str = ""
    doubt: str = ""

    @property
    def why_unmeasured(self) -> str:
        """Empty for a source that attestation covers."""
        return self.doubt or _UNMEASURED.get(self.kind, "")

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name}" if self.name else self.kind.value


DEFAULT: Final = Source(SourceKind.DEFAULT)


@dataclass(frozen=True, slots=True)
class Given:
    """One value of one source. ``key`` is dotted; ``adds`` to a list instead of replacing it."""

    key: str
    value: object
    source: Source
    adds: bool = False

    def below(self, table: str) -> Given:
        """Return the same for a configuration that has this one as ``table``."""
        return Given(f"{table}.{self.key}", self.value, self.source, self.adds)


@dataclass(frozen=True, slots=True)
class Weakening:
    """A value that makes the guest less secure than the default does.

    ``key`` is dotted. ``said`` is whether it is warned of each time; what merely names another
    authority is not. ``by_flag`` admits a flag, for what the reference has as one.
    """

    key: str
    reason: str
    said: bool = True
    by_flag: bool = False

    def below(self, table: str) -> Weakening:
        """As :meth:`Given.below`."""
        return Weakening(f"{table}.{self.key}", self.reason, self.said, self.by_flag)


@dataclass(frozen=True, slots=True)
class Settings(Generic[C_co]):
    """A configuration, the source of each value, and what an operator should be told.

    ``file`` is the path of the configuration file, empty without one.
    """

    value: C_co
    origins: Mapping[str, Source] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    weakenings: tuple[Weakening, ...] = ()
    file: str = ""

    def source_of(self, key: str) -> Source:
        """Return the source of the value at ``key``, or of the list or table that has it."""
        parts = _PART.findall(key)
        while parts:
            found = self.origins.get(_joined(parts))
            if found is not None:
                return found
            parts.pop()
        return DEFAULT

    def of_table(self, table: str, value: T) -> Settings[T]:
        """Return the part of one table, with keys as the table's own."""
        prefix = f"{table}."
        origins = {
            k.removeprefix(prefix): v for k, v in self.origins.items() if k.startswith(prefix)
        }
        return Settings(value, origins)

    def judged(self, weakenings: Iterable[Weakening], notes: Iterable[str] = ()) -> Settings[C_co]:
        """Return these settings with what weakens them.

        Raises :class:`~lifecycle.errors.UnmeasuredSettingError` for the first such value from a
        source that no measurement covers.
        """
        found = tuple(weakenings)
        for weakening in found:
            source = self.source_of(weakening.key)
            if source.kind is SourceKind.FLAG and weakening.by_flag:
                continue
            if source.why_unmeasured:
                raise UnmeasuredSettingError(
                    weakening.key, str(source), weakening.reason, source.why_unmeasured
                )
        said = tuple(weakening for weakening in found if weakening.said)
        return Settings(self.value, self.origins, (*self.notes, *notes), said, self.file)


class Layers:
    """Collects sources from the weakest to the strongest, then makes one typed value of them."""

    def __init__(self) -> None:
        self._tree: Tree = {}
        self._origins: dict[str, Source] = {}
        self._notes: list[str] = []
        self._file = ""

    def add_tree(self, tree: Tree, source: Source, historic: Mapping[str, str]) -> None:
        """Put a whole file over what is there.

        ``historic`` are keys of older releases of the reference: left out, with a note each.
        """
        self._file = source.name
        for key, why in historic.items():
            if _take(tree, key.split(".")):
                self._notes.append(f"{key} in {source.name} has no effect: {why}")
        self._merge(self._tree, tree, source, "")

    def add(self, given: Iterable[Given]) -> None:
        """Put single values over what is there, in their order."""
        for one in given:
            *tables, name = one.key.split(".")
            tree = self._tree
            for table in tables:
                tree = tree.setdefault(table, {})
                if not isinstance(tree, dict):
                    return  # decoding says which key is not a table
            items = tree.get(name)
            if one.adds and isinstance(items, list) and isinstance(one.value, list):
                start = len(items)
                tree[name] = [*items, *one.value]
                self._mark(one.key, one.value, one.source, start)
            else:
                self._set(tree, name, one.value, one.source, one.key)

    def decode(self, kind: type[T]) -> Settings[T]:
        """Raises :class:`SettingsError` that names the source and the key, never the value."""
        try:
            value = msgspec.convert(self._tree, kind)
        except msgspec.ValidationError as error:
            place = _PLACE.search(str(error))
            source = self._origins.get(place[1] if place else "")
            raise SettingsError(
                str(source) if source else self._file or str(DEFAULT),
                problem_of(error),
                hint="see docs/configuration.md",
            ) from None  # its text can hold the value
        return Settings(value, self._origins, tuple(self._notes), file=self._file)

    def _merge(self, into: Tree, tree: Tree, source: Source, prefix: str) -> None:
        for name, value in tree.items():
            present = into.get(name)
            if isinstance(value, dict) and isinstance(present, dict):
                self._merge(present, value, source, f"{prefix}{name}.")
            else:
                self._set(into, name, value, source, prefix + name)

    def _set(self, into: Tree, name: str, value: object, source: Source, key: str) -> None:
        for older in [k for k in self._origins if k == key or k.startswith((f"{key}.", f"{key}["))]:
            del self._origins[older]
        into[name] = value
        self._mark(key, value, source)

    def _mark(self, key: str, value: object, source: Source, start: int = 0) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                self._mark(f"{key}.{name}", inner, source)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for number, item in enumerate(value, start):
                self._mark(f"{key}[{number}]", item, source)
        else:
            self._origins[key] = source


def values_of(struct: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a configuration with its value, tables and lists of tables opened."""
    for info in msgspec.structs.fields(type(struct)):
        yield from _values(prefix + info.encode_name, getattr(struct, info.name))


def _values(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        yield from values_of(value, f"{key}.")
    elif isinstance(value, Sequence) and any(isinstance(item, msgspec.Struct) for item in value):
        for number, item in enumerate(value):
            yield from _values(f"{key}[{number}]", item)
    else:
        yield key, value


def _take(tree: Tree, parts: Sequence[str]) -> bool:
    *tables, name = parts
    inner: Any = tree
    for table in tables:
        inner = inner.get(table) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or name not in inner:
        return False
    del inner[name]
    return True


def _joined(parts: Sequence[str]) -> str:
    return ".".join(parts).replace(".[", "[")
