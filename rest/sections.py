"""The parts of section ``[rest]`` that have a shape of their own: rules and limits."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

MAX_RULES: Final = 128
MAX_PATTERN: Final = 512  # characters

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATTERN)]
Count = Annotated[int, msgspec.Meta(ge=1, le=65536)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class MatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which containers: every pattern that is given must fit. ``*`` is any run of characters.

    The values are annotations of the container, so they are the host's words unless the agent's
    measured policy pins them.
    """

    container: Text | None = None
    namespace: Text | None = None
    pod: Text | None = None
    pod_uid: Text | None = None
    image: Text | None = None
    annotations: Annotated[dict[Text, Text], msgspec.Meta(max_length=32)] = msgspec.field(
        default_factory=dict
    )

    @property
    def is_empty(self) -> bool:
        return self == MatchConfig()


class RuleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[rest.rules]]``: ``who`` may get what. ``name`` is for logs and refusals.

    ``container`` needs a ``match``; ``guest`` is a process in no container; ``anyone`` is also
    whoever comes over TCP.
    """

    name: Text
    who: Literal["container", "guest", "anyone"] = "container"
    match: MatchConfig = msgspec.field(default_factory=MatchConfig)
    resources: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] = ()
    tokens: Annotated[tuple[Text, ...], msgspec.Meta(max_length=16)] = ()
    evidence: bool = False
    measure: bool = False


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[rest.limits]``: what callers can take up. All of TCP is one caller.

    A caller may ask ``burst`` times at once and ``requests_per_second`` in the long run. Seconds:
    ``head_seconds`` for the lines before a body, ``body_seconds`` for a body, ``send_seconds``
    for taking an answer, ``keep_alive_seconds`` between requests of a connection.
    """

    connections: Count = 1024
    requests: Count = 512
    requests_per_caller: Count = 128
    requests_per_second: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 5000.0
    burst: Count = 10000
    head_seconds: Seconds = 10.0
    body_seconds: Seconds = 10.0
    send_seconds: Seconds = 30.0
    keep_alive_seconds: Seconds = 75.0
