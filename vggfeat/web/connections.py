"""Connections of clients that stop halfway: each may wait for so long, and all for so many.

uvicorn has a deadline for idle connections only: a request that never ends, or an answer that is
never read, would be kept for ever. Here each connection knows since when the server waits for its
client. Whoever waits too long is let go, and where there are too many, the one that waits longest
of those that have not sent a request yet, so that whoever does send some stays.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_MOST = 1000
_RESERVED = 128  # descriptors of the process itself, and of connections accepted in one go
_LEAST = 16

_log = logging.getLogger(__name__)


def most_connections() -> int:
    """Return how many connections fit below the process's limit of open files.

    Each may hold two: its socket, and the upload or original that it brings or takes.
    """
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except ImportError:  # Windows has no such limit
        return _MOST
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(_LEAST, min(_MOST, (soft - _RESERVED) // 2))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the server waits for a client, in seconds.

    Attributes
    ----------
    head : float
        For the head of a request, from the connection or the answer before.
    body : float
        For a body that comes slower than `rate`, and for its next piece.
    rate : int
        Bytes a second that a body comes with at least, on average.
    taking : float
        For a client to take a piece of the answer.
    closing : float
        For the end of an answer to leave after the connection was closed.
    stopping : int
        For answers under way when the server stops.
    look : float
        Between two looks at a connection.
    connections : int, optional
        Open at a time at most; by default see :func:`most_connections`.
    """

    head: float = 10
    body: float = 20
    rate: int = 16 << 10
    taking: float = 30
    closing: float = 10
    stopping: int = 10
    look: float = 1
    connections: int | None = None


class Connection(H11Protocol):
    """One connection, let go where its client keeps the server waiting.

    Parameters
    ----------
    patience : Patience
    **given
        What uvicorn gives its protocols.
    """

    def __init__(self, *, patience: Patience, **given: Any) -> None:
        super().__init__(**given)
        self._patience = patience
        self._most = patience.connections or most_connections()
        self._watch: asyncio.TimerHandle | None = None
        self._since = self._looked = self.loop.time()  # when the wait for a head began
        self._stalled: float | None = None  # since when the client takes nothing
        self._closed: float | None = None
        self._request: Any = None  # whose body these are about:
        self._waited = self._quiet = 0.0
        self._received = 0
        self._answered = False  # whether any request was

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, letting another go for it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._most and not self._make_room():
            _log.warning(
                "More than %d connections at once: more are refused with status 503.", self._most
            )
            self._let_go(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections. Try again soon.")
        self._watch = self.loop.call_later(self._patience.look, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note that the client has sent something."""
        self._received += len(data)
        self._quiet = 0.0
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since = self.loop.time()
        self._answered = True
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note that the client does not take what is sent."""
        self._stalled = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client takes what is sent."""
        self._stalled = None
        super().resume_writing()

    @property
    def waits_for_head(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def waits_for_body(self) -> bool:
        """Whether a request's body is not here yet, and the server would take more of it."""
        return not self.waits_for_head and self.cycle.more_body and not self.flow.read_paused

    def waited(self) -> float:
        """Return for how many seconds the server has waited for this client; 0 where it does not.

        A connection that is being closed waits for nothing.
        """
        if self.transport.is_closing():
            return 0.0
        if self._stalled is not None:
            return self.loop.time() - self._stalled
        if self.waits_for_head:
            return self.loop.time() - self._since
        return self._waited if self.waits_for_body else 0.0

    def _make_room(self) -> bool:
        """Let the client go that is waited for the longest; return whether there is one.

        Those that have sent no request yet go first. Were it by the time alone, a thousand that
        come again and again would drive out whoever thinks between two requests.
        """
        others = [one for one in self.connections if isinstance(one, Connection)]
        waiting = [one for one in others if one is not self and one.waited()]
        if not waiting:
            return False
        slowest = max(waiting, key=lambda one: (one._silent, one.waited()))
        slowest._let_go(HTTPStatus.REQUEST_TIMEOUT, "Others wait for the connection.")
        return True

    @property
    def _silent(self) -> bool:
        """Whether no whole head of a request has come yet."""
        return self.waits_for_head and not self._answered

    def _look(self) -> None:
        now = self.loop.time()
        passed, self._looked = now - self._looked, now
        if self.cycle is not self._request:
            self._request, self._waited, self._quiet, self._received = self.cycle, 0.0, 0.0, 0
        if self.waits_for_body:
            self._waited += passed
            self._quiet += passed
        may = self._patience
        if self.transport.is_closing():
            self._closed = self._closed or now
            if now - self._closed > may.closing:
                self.transport.abort()
        elif self._stalled is not None and now - self._stalled > may.taking:
            self.transport.abort()
        elif self.waits_for_head and now - self._since > may.head:
            self._let_go(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time.")
        elif self._quiet > may.body or self._waited > may.body + self._received / may.rate:
            self._let_go(HTTPStatus.REQUEST_TIMEOUT, "The request's body did not come in time.")
        self._watch = self.loop.call_later(may.look, self._look)

    def _let_go(self, status: HTTPStatus, reason: str) -> None:
        """Close the connection, with an answer where none has begun."""
        cycle = self.cycle
        begun = cycle is not None and not cycle.response_complete and cycle.response_started
        if not begun and self._stalled is None:
            body = json.dumps({"error": reason}).encode()
            self.transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
                "content-type: application/json\r\nretry-after: 2\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
