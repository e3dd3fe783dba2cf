"""The bounds a server keeps, each stated once with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server grants its peers together and each connection of them."""

    # kata-agent keeps one connection for ever and the other services a few. Idle ones are cheap;
    # beyond this many a newcomer displaces another, see ttrpc.admission.
    connections: int = 512
    # So many of them for one process, so that no single one can crowd the others out.
    connections_per_process: int = 128
    # A frame that stays incomplete for so long closes its connection, seconds. Over a unix socket
    # 4 MiB take milliseconds. Time in which the server does not read does not count.
    partial_frame_s: float = 30.0
    # What the incomplete frames of all connections may hold together; beyond it, the connection
    # whose frame has been incomplete for longest is closed. Each may hold up to 4 MiB.
    partial_bytes: int = 64 * 1024 * 1024
    # At this many the connection is not read any further, so the peer's own writes block. The
    # references have no limit; a PullImage calls back into the same service, so it must not be 1.
    calls_per_connection: int = 1024
    # More open streams than this are refused, as each is a handler that may wait for ever.
    streams_per_connection: int = 256
    # Data of requests in flight and of messages that no handler has taken. Without it, full-sized
    # requests could hold calls_per_connection x 4 MiB.
    request_bytes_per_connection: int = 16 * 1024 * 1024
    # The same of all connections together. Beyond it a connection that has anything in flight is
    # not read; one that has nothing may always begin, so that nobody waits for anybody else.
    request_bytes: int = 64 * 1024 * 1024
    # Replies that wait because the peer takes none of those before them. One that is made when so
    # much waits is dropped, and its call fails: handlers in flight cannot be made to wait with
    # what they answer without keeping it. Sixteen replies of full size at once still fit.
    reply_bytes_per_connection: int = 64 * 1024 * 1024
    # The same of all connections together; the first reply that waits on a connection is kept.
    reply_bytes: int = 128 * 1024 * 1024
    # When untaken messages leave a connection no room for so long, the stream that holds most of
    # them is ended, so that one slow handler cannot hold up the other calls for ever, seconds.
    crowded_s: float = 10.0
    # A peer that has more replies waiting than are buffered, and does not take enough of them for
    # handlers to go on within so long, is disconnected, seconds.
    stalled_write_s: float = 60.0
    # How long replies may take to leave a connection that is being closed in order, seconds.
    flush_s: float = 2.0
