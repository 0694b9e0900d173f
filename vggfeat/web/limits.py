"""What a request may ask for, and the refusal of bodies that are too large."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vggfeat.images import MAX_PIXELS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_FORM_BYTES = 64 << 10  # what surrounds the image in a form
_UNDER_WAY_BYTES = 1 << 30  # of all bodies together, beside the largest
_BUSY = "Too many images are being sent at once. Try again soon."
_LINGER_SECONDS = 2
LINGER_BYTES = 64 << 20
"""Of a body that is refused: read and dropped, a piece at a time."""
_BYTES_A_PIXEL = 16  # as decoded, as RGB, upright and resized, at Pillow's four bytes each


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for.

    Attributes
    ----------
    upload : int
        Largest uploaded image in bytes.
    pixels : int
        Largest image in pixels, by its header, before any is decoded; by default that of
        extraction, so that what is in the index can be searched for.
    neighbours : int
        Largest k.
    """

    upload: int = 128 << 20
    pixels: int = MAX_PIXELS
    neighbours: int = 500

    @property
    def body(self) -> int:
        """Largest request in bytes: an image and the form around it."""
        return self.upload + _FORM_BYTES

    @property
    def request_bytes(self) -> int:
        """Most memory that a request with an image takes, whatever the image says of itself.

        The body, and 16 bytes for each of `pixels`: the image as it is decoded, as RGB, upright,
        and resized. The network's activations come to that, and are of one image at a time.
        """
        return self.body + _BYTES_A_PIXEL * self.pixels


class BodyLimit:
    """Refuses a request whose body is too large, before it is read whole (ASGI middleware).

    A declared length is refused at once with status 413; a body without one as soon as more than
    the limit has come. Bodies of all requests together take a gigabyte of the disk at most; beyond
    it, status 503.

    Parameters
    ----------
    app : ASGI application
    limit : int
        In bytes.
    """

    def __init__(self, app: App, limit: int) -> None:
        self.app = app
        self.limit = limit
        self._under_way = 0  # bytes of all bodies that are here and not yet answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse

        reason = (
            f"The request is larger than {self.limit:,} bytes. Send a smaller image, or start the "
            "server with a larger --max-upload."
        )
        close = {"connection": "close"}  # else the server would go on reading what it has refused
        lingering = _lingering(receive, send)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > self.limit:
            await JSONResponse({"error": reason}, 413, close)(scope, receive, lingering)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            more = len(message.get("body", b""))
            read += more
            self._under_way += more
            if read > self.limit:
                raise HTTPException(413, reason, close)
            if self._under_way > self.limit + _UNDER_WAY_BYTES:
                raise HTTPException(503, _BUSY, close | {"retry-after": "2"})
            return message

        async def answer(message: Message) -> None:
            await (lingering if read > self.limit else send)(message)

        try:
            await self.app(scope, counted, answer)
        finally:
            self._under_way -= read


def _lingering(receive: Receive, send: Send) -> Send:
    """Return a `send` that leaves the connection open for a while after the answer.

    A connection that is closed while the other side is still sending is reset, and the answer may
    be lost on its way.
    """

    async def sent(message: Message) -> None:
        if message["type"] != "http.response.body" or message.get("more_body", False):
            await send(message)
            return
        await send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                left = LINGER_BYTES
                while left > 0:
                    more = await receive()
                    left -= len(more.get("body", b""))
                    if more["type"] != "http.request" or not more.get("more_body", False):
                        break
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return sent
