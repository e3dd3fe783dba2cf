"""Service tables that stay while the parts behind them come and go.

A server is made once, from these tables; so connections outlive the parts. kata-agent depends on
it, which connects once and never again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from serving.errors import PartUnavailableError
from serving.present import Present
from ttrpc import Code, ServiceTable, StatusError

T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class Switchboard(Generic[T]):
    """Forwards each method to the same method of the part that runs now."""

    present: Present[T]
    pick: Callable[[T], Sequence[ServiceTable]]
    _known: T | None = None
    _handlers: dict[tuple[str, str], Handler] | None = None

    def tables(self, first: T) -> list[ServiceTable]:
        """Return stable tables of the form of those of ``first``.

        Methods may be unary or streaming. While the part is away, a call waits for it a short
        time; then, and when the part goes away during the call, the answer is UNAVAILABLE.
        """
        return [
            ServiceTable(
                table.name,
                {
                    name: replace(method, handler=self._forward(table.name, name))
                    for name, method in table.methods.items()
                },
            )
            for table in self.pick(first)
        ]

    def _forward(self, service: str, method: str) -> Handler:
        key = (service, method)

        # A unary handler gets request and context; a streaming one a receiver, a sender or both.
        async def forward(*arguments: Any) -> Any:
            try:
                return await self.present.call(lambda part: self._handler(part, key)(*arguments))
            except PartUnavailableError as error:
                raise StatusError(Code.UNAVAILABLE, str(error)) from error

        return forward

    def _handler(self, part: T, key: tuple[str, str]) -> Handler:
        if self._handlers is None or self._known is not part:
            self._known = part
            self._handlers = {
                (table.name, name): method.handler
                for table in self.pick(part)
                for name, method in table.methods.items()
            }
        handler = self._handlers.get(key)
        if handler is None:
            raise StatusError(Code.UNIMPLEMENTED, f"{key[1]} is not served at present")
        return handler
