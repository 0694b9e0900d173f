"""The application: which address does what."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from time import perf_counter
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

import jinja2
from fastapi import Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from vggfeat._version import __version__
from vggfeat.errors import ImageError, SearchError, SourceError, VggfeatError
from vggfeat.files import system_reason
from vggfeat.report.search import METRICS
from vggfeat.signatures import SIGNATURE_BYTES, sniff
from vggfeat.web.forms import FIELDS, JsonForms, Refused, check_fields
from vggfeat.web.guarding import Guard, Hosts
from vggfeat.web.limits import BodyLimit
from vggfeat.web.live import LiveService
from vggfeat.web.pictures import SIDES
from vggfeat.web.service import ExplainRequest, SearchRequest, SearchService, StaleIdError

_HERE = Path(__file__).parent
_CHUNK = 256 << 10
_MOST_LABELS = 2000
_SHOWN = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}
"""Formats of originals that browsers show; others are handed over as files."""

_REVALIDATED = "private, no-cache"
_CACHED = "private, max-age=86400"

_log = logging.getLogger(__name__)

Texts = list[str]


def create_app(live: LiveService, hosts: Hosts | None = None) -> FastAPI:
    """Make the application of an index.

    Parameters
    ----------
    live : LiveService
        The index.
    hosts : Hosts, optional
        Names that the server may be called by; by default any.

    Returns
    -------
    FastAPI
        Its description is at ``/openapi.json``, in short at ``/api``.
    """
    # The documentation pages that FastAPI brings load scripts from elsewhere.
    app = FastAPI(title="vggfeat", version=__version__, docs_url=None, redoc_url=None)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    _add_pages(app, live)
    _add_search(app, live)
    _add_explain(app, live)
    _add_pictures(app, live)
    _add_errors(app)
    app.add_middleware(JsonForms)
    app.add_middleware(BodyLimit, limit=live.current().limits.body)
    app.add_middleware(Guard, hosts=hosts)
    return app


def _add_pages(app: FastAPI, live: LiveService) -> None:
    loader = jinja2.FileSystemLoader(_HERE / "templates")
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        service = live.current()
        return pages.get_template("page.html").render(
            name=live.name,
            images=len(service.index),
            labels=service.index.labels[:_MOST_LABELS],
            metric=METRICS[service.index.metric],
            most=service.limits.neighbours,
            upload=service.limits.upload,
            version=__version__,
        )

    @app.get("/api", response_class=HTMLResponse, include_in_schema=False)
    def api() -> str:
        return pages.get_template("api.html").render(name=live.name, paths=app.openapi()["paths"])


def _add_search(app: FastAPI, live: LiveService) -> None:
    @app.get("/api/info", summary="What the index holds.")
    def info() -> dict[str, Any]:
        service = live.current()
        about = service.index.info().to_json()
        limits = {
            "upload_bytes": service.limits.upload,
            "pixels": service.limits.pixels,
            "k": service.limits.neighbours,
        }
        labels = service.index.labels[:_MOST_LABELS]
        return {
            "name": live.name,
            "version": __version__,
            "generation": service.index.generation,
            "labels": labels,
            "limits": limits,
        } | about

    @app.get("/api/sample", summary="Images spread evenly over the index, to start from.")
    def sample(
        k: Annotated[int, Query(description="How many.")] = 24,
        path: Annotated[Texts, Query()] = [],  # noqa: B006 (FastAPI copies it)
        label: Annotated[Texts, Query()] = [],  # noqa: B006
    ) -> dict[str, Any]:
        service = live.current()
        ids = service.sample(k, path, label)
        return {
            "generation": service.index.generation,
            "images": [_described(service, image_id) for image_id in ids],
        } | _hint(service, path, ids)

    @app.post(
        "/api/search",
        summary="The images most like one that is sent, or one of the index.",
        description="A form, or without an image a JSON object of the same fields.",
        dependencies=[Depends(_only_fields)],
    )
    def search(
        image: Annotated[
            UploadFile | None, File(description="An image file; either this or id.")
        ] = None,
        id: Annotated[
            int | None, Form(description="Of an indexed image, left out of its own results.")
        ] = None,
        k: Annotated[int, Form(description="How many neighbours.")] = 24,
        box: Annotated[
            str | None,
            Form(description="Part of the upright image: x,y,w,h, in pixels or all in percent."),
        ] = None,
        path: Annotated[
            Texts, Form(description="Images, folders with all below, or patterns: cats, */2026-*.")
        ] = [],  # noqa: B006
        label: Annotated[Texts, Form(description="Classes, of which one must fit.")] = [],  # noqa: B006
        unlike: Annotated[
            list[int],
            Form(description="Ids of images that results should not be like, left out too."),
        ] = [],  # noqa: B006
        generation: Annotated[
            str | None,
            Form(description="As a result gave it with the ids; status 409 once it changed."),
        ] = None,
    ) -> dict[str, Any]:
        start = perf_counter()
        file = None if image is None else image.file
        request = SearchRequest(file, id, k, box or None, path, label, unlike, generation)
        service = live.current()
        results = service.answer(request)
        return {
            "query": None if id is None else _described(service, id),
            "unlike": [_described(service, one) for one in unlike],
            "generation": service.index.generation,
            "metric": service.index.metric,
            "seconds": round(perf_counter() - start, 6),
            "neighbours": [one.to_json() for one in results],
        } | _hint(service, path, results)


def _add_explain(app: FastAPI, live: LiveService) -> None:
    @app.post(
        "/api/explain",
        summary="Where an image that is sent, or one of the index, is like another of the index.",
        description="A form, or without an image a JSON object of the same fields. `query` and "
        "`image` (the neighbour) each have: `overlay`, a PNG as data URI to lay over the whole "
        "upright image, at any size, where orange adds to the similarity and blue takes from it; "
        "`total`, `for`, `against`, the sum of the map and its parts; `constant`, what is of no "
        "place, with which an exact map sums to `score`; `peak`, x and y of the most in 0..1; and "
        "`box`, the smallest that holds 80 % of what adds, in percent as a search takes it, or "
        "null. `reach` is the value of the strongest colour, per hundredth of the image's area.",
        dependencies=[Depends(_only_fields)],
    )
    def explain(
        neighbour: Annotated[int, Form(description="Id of the indexed image to compare with.")],
        image: Annotated[
            UploadFile | None, File(description="An image file; either this or id.")
        ] = None,
        id: Annotated[int | None, Form(description="Of an indexed image.")] = None,
        box: Annotated[
            str | None, Form(description="Part of the image that was searched for; see search.")
        ] = None,
        generation: Annotated[str | None, Form(description="See search.")] = None,
    ) -> dict[str, Any]:
        start = perf_counter()
        file = None if image is None else image.file
        service = live.current()
        found = service.explain(ExplainRequest(neighbour, file, id, box or None, generation))
        return found | {
            "generation": service.index.generation,
            "seconds": round(perf_counter() - start, 6),
        }


def _hint(
    service: SearchService, paths: Sequence[str], results: Sequence[object]
) -> dict[str, str]:
    """Return what may be wrong with filters that left nothing."""
    return {} if results or not (hint := service.hint(paths)) else {"hint": hint}


async def _only_fields(request: Request) -> None:
    check_fields(await request.form(), FIELDS[request.url.path])


def _described(service: SearchService, image_id: int) -> dict[str, Any]:
    index = service.index
    return {"id": image_id, "path": index.path(image_id), "label": index.label(image_id)}


def _add_pictures(app: FastAPI, live: LiveService) -> None:
    @app.get("/api/thumbnail/{id}", response_class=Response, summary="A small JPEG of an image.")
    def thumbnail(
        request: Request,
        id: int,
        side: Annotated[
            int, Query(description=f"Longest side in pixels: {SIDES[0]} or {SIDES[1]}.")
        ] = SIDES[0],
        generation: Annotated[
            str | None, Query(description="See search. With it the picture may be kept for a day.")
        ] = None,
    ) -> Response:
        if side not in SIDES:
            raise SearchError(f"side is {side}; allowed are {SIDES[0]} and {SIDES[1]}.")
        service = live.current()
        service.check_generation(generation)
        tag = f'"{service.pictures.tag(_known(service, id), side)}"'
        headers = {"etag": tag, "cache-control": _CACHED if generation else _REVALIDATED}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        jpeg = service.pictures.thumbnail(id, side)
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    @app.get("/api/original/{id}", response_class=Response, summary="The image file itself.")
    def original(
        id: int, generation: Annotated[str | None, Query(description="See search.")] = None
    ) -> Response:
        service = live.current()
        service.check_generation(generation)
        file = service.pictures.original(_known(service, id))
        kind = _SHOWN.get(sniff(file.read(SIGNATURE_BYTES)))
        file.seek(0)
        # Encoded, so that no name of a file can end the header.
        name = quote(PurePosixPath(service.index.path(id)).name, safe="")
        shown = "attachment" if kind is None else "inline"
        headers = {
            "cache-control": _REVALIDATED,
            "content-disposition": f"{shown}; filename*=UTF-8''{name}",
        }
        return StreamingResponse(
            _pieces(file), media_type=kind or "application/octet-stream", headers=headers
        )


def _known(service: SearchService, image_id: int) -> int:
    try:
        service.index.check_ids([image_id])
    except SearchError as error:
        raise HTTPException(404, str(error)) from error
    return image_id


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_CHUNK):
            yield piece


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(VggfeatError)
    def refused(request: Request, error: VggfeatError) -> JSONResponse:
        gone = request.method == "GET" and isinstance(error, ImageError | SourceError)
        status = 409 if isinstance(error, StaleIdError) else 404 if gone else 400
        return JSONResponse({"error": _line(str(error))}, status)

    @app.exception_handler(Refused)
    def not_understood(_request: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": _line(str(error))}, error.status)

    @app.exception_handler(OSError)
    def away(request: Request, error: OSError) -> JSONResponse:
        _log.error("%s %s failed: %s", request.method, request.url.path, error)
        reason = (
            f"A file cannot be read or written: {system_reason(error)}. If the index was moved or "
            "removed, start the server at its new place."
        )
        return JSONResponse({"error": _line(reason)}, 503)

    @app.exception_handler(HTTPException)
    def http(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": _line(str(error.detail))}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": _line(f"{first['loc'][-1]}: {first['msg']}.")}, 422)

    @app.exception_handler(Exception)
    def defect(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed: %r", request.method, request.url.path, error)
        reason = f"unexpected {type(error).__name__}; this is a defect of the server's"
        return JSONResponse({"error": reason}, 500)


def _line(text: str) -> str:
    return " ".join(text.split())
