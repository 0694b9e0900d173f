"""Requests for a search in the forms that programs send them: a form, or JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from vggfeat.web.limits import App, Message, Receive, Scope, Send

FIELDS = {
    "/api/search": ("image", "id", "k", "box", "path", "label", "unlike", "generation"),
    "/api/explain": ("image", "id", "box", "neighbour", "generation"),
}
"""What each address that takes a form may be given."""

_SEVERAL = {"path", "label", "unlike"}
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_JSON_BYTES = 256 << 10
_READ_AWAY = 4 << 20


class Refused(Exception):
    """A body that is not understood: a status of HTTP, and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class JsonForms:
    """Turns a JSON body into the form of the same fields, and refuses other kinds (ASGI).

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        kind = given.partition(";")[0].strip().lower()
        if kind in ("", *_FORMS):
            await self.app(scope, receive, send)
            return
        from starlette.responses import JSONResponse

        try:
            if kind != "application/json":
                await _read_away(receive)
                raise Refused(
                    415,
                    f"The body is {kind}; allowed are {', '.join(_FORMS)} and application/json. "
                    "Send an image as the field image of a form, as curl -F image=@photo.jpg does.",
                )
            form = form_of(await _read(receive), FIELDS.get(scope["path"], ()))
        except Refused as error:
            close = {"connection": "close"}
            answer = JSONResponse({"error": str(error)}, error.status, close)
            await answer(scope, receive, send)
            return
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if name not in (b"content-type", b"content-length", b"transfer-encoding")
        ]
        headers += [
            (b"content-type", _FORMS[1].encode()),
            (b"content-length", str(len(form)).encode()),
        ]
        sent = False

        async def formed() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": form, "more_body": False}

        await self.app({**scope, "headers": headers}, formed, send)


def form_of(body: bytes, allowed: Collection[str]) -> bytes:
    """Return a JSON object as an URL-encoded form.

    Parameters
    ----------
    body : bytes
    allowed : collection of str
        Names of fields.

    Raises
    ------
    Refused
        It is no object of these fields, or a value is of another kind than its field.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is no JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise Refused(422, 'The body is no JSON object, such as {"id": 3, "k": 5}.')
    check_fields(fields.keys(), allowed)
    return urlencode(
        [pair for name, value in fields.items() for pair in _pairs(name, value)]
    ).encode()


def check_fields(names: Iterable[str], allowed: Collection[str]) -> None:
    """Refuse names of fields that are not allowed.

    Raises
    ------
    Refused
        One is unknown; the reason names it.
    """
    if unknown := sorted(set(names) - set(allowed)):
        raise Refused(422, f"{unknown[0][:100]!r} is no field; allowed are {', '.join(allowed)}.")


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if name == "image":
        raise Refused(422, "image: JSON holds no files. Send a form, as curl -F image=@photo.jpg.")
    if name == "box" and isinstance(value, list):
        yield name, ",".join(_text(name, one) for one in value)
    elif isinstance(value, list):
        if name not in _SEVERAL:
            raise Refused(422, f"{name}: one value is allowed, not a list.")
        yield from ((name, _text(name, one)) for one in value)
    else:
        yield name, _text(name, value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(422, f"{name}: a text or a number is allowed, not {json.dumps(value)[:60]}.")
    return str(value)


async def _read_away(receive: Receive) -> None:
    """Take in what is left of a body, within reason: who still sends would not read an answer."""
    left = _READ_AWAY
    while left > 0:
        message = await receive()
        if not message.get("more_body", False):
            return
        left -= len(message.get("body", b""))


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "The body did not come whole.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _JSON_BYTES:
            if more:
                await _read_away(receive)
            raise Refused(413, f"The body has more than {_JSON_BYTES:,} bytes of JSON.")
        if not more:
            return bytes(body)
