"""The hub's way to the sessions of the agent that runs now, whichever that is."""

from __future__ import annotations

from agent.compose import RunningAgent
from cdh.errors import AgentUnreachableError
from kbs import AttestedSession, KbsError, SessionSource, address_of
from serving.errors import PartUnavailableError
from serving.present import Present


class PresentSessions:
    """Sessions with one key broker. Implements ``kbs.SessionSource``."""

    def __init__(self, agent: Present[RunningAgent], url: str | None = None) -> None:
        """``url`` has no end slash; ``None`` is the agent's first key broker."""
        self._agent = agent
        self._url = url

    async def session(self, refused: AttestedSession | None = None) -> AttestedSession:
        """Return a session of the agent's.

        Raises ``kbs.KbsError`` and what attesting raises; while the agent is opened again
        :class:`~cdh.errors.AgentUnreachableError`, after a short wait.
        """
        try:
            return await self._agent.call(lambda agent: self._source(agent).session(refused))
        except PartUnavailableError as error:
            raise AgentUnreachableError("in this process", str(error)) from error

    def _source(self, agent: RunningAgent) -> SessionSource:
        if self._url is None:
            return agent.sessions
        source = agent.kbs_sessions.by_url.get(self._url)
        if source is None:
            raise KbsError(
                f"the agent is no longer configured for {address_of(self._url)!r}",
                attempted="attesting",
                hint="configure it in token_configs, or take it out of cdh.kbc",
            )
        return source


def sessions_by_url(agent: Present[RunningAgent]) -> dict[str, SessionSource]:
    """Return one source for each key broker of the agent that runs now."""
    running = agent.value
    urls = running.kbs_sessions.by_url if running is not None else {}
    return {url: PresentSessions(agent, url) for url in urls}
