"""How a command is declared: arguments on an argparse parser and one coroutine."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cguest.outcome import Outcome
from cguest.sockets import Targets

Run = Callable[[argparse.Namespace, Targets], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Verb:
    """``help`` is the line in the list, ``teach`` what ``--help`` explains beyond it."""

    name: str
    help: str
    run: Run
    arguments: Callable[[argparse.ArgumentParser], None] = lambda _parser: None
    teach: str = ""


@dataclass(frozen=True, slots=True)
class Noun:
    """A group of verbs. A noun without a name of its own verbs is a verb at the top."""

    name: str
    help: str
    verbs: tuple[Verb, ...]


def add_verb(parsers: argparse._SubParsersAction[argparse.ArgumentParser], verb: Verb) -> None:
    """Add ``verb`` and bind its coroutine as ``run``."""
    parser = parsers.add_parser(
        verb.name,
        help=verb.help,
        description=verb.help[:1].upper() + verb.help[1:] + ".",
        epilog=verb.teach,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.arguments(parser)
    parser.set_defaults(run=verb.run)
