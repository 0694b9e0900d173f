"""A server of one index, from its start to its stop."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from vggfeat.errors import ServeError
from vggfeat.web.guarding import Hosts, is_local
from vggfeat.web.limits import App, Limits
from vggfeat.web.log_throttle import throttled_logs

if TYPE_CHECKING:
    import uvicorn

    from vggfeat.web.connections import Patience

_log = logging.getLogger(__name__)

_AT_ONCE = 16
_QUEUE = 1024  # connections that wait to be accepted
_UNSENT_BYTES = 256 << 10  # of an answer, kept by the system: beyond it we see who does not read


def serve(
    index: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    roots: Sequence[str | os.PathLike[str]] = (),
    names: Sequence[str] = (),
    ready: Callable[[str], None] | None = None,
    **network: Any,
) -> None:
    """Serve the page and the API of an index until SIGINT or SIGTERM, in the main thread.

    Changes of the index by others are taken up with the next request.

    Parameters
    ----------
    index : path
    host : str
        Address to listen at. Requests that call the server by a name that is not its own are
        refused, since they may come from pages of other sites.
    port : int
        0 takes a free one.
    limits : Limits, optional
    roots : sequence of path or ``NAME=PATH``
        Where originals are now, or may come from beside the sources that the index names; see
        :class:`vggfeat.sources.Originals`.
    names : sequence of str
        Names that it has beside `host`, those of this machine and its addresses, such as one that
        a proxy forwards.
    ready : callable, optional
        Told the address once the server listens.
    **network
        `weights`, `device`, `precision` and `engine` of :class:`vggfeat.queries.ImageSearch`.

    Raises
    ------
    ServeError
        The extra is not installed, or the address cannot be listened at.
    SearchError, StoreMismatchError, WeightsError
        See :meth:`vggfeat.index.SimilarityIndex.open` and :class:`vggfeat.queries.ImageSearch`.
    KeyboardInterrupt
        After a graceful stop by SIGINT; SIGTERM makes it return.
    """
    _check_extra()
    from vggfeat.index import SimilarityIndex
    from vggfeat.queries import ImageSearch
    from vggfeat.web.app import create_app
    from vggfeat.web.live import LiveService
    from vggfeat.web.pictures import Pictures
    from vggfeat.web.service import SearchService

    limits = limits or Limits()

    def search(opened: SimilarityIndex) -> ImageSearch:
        return ImageSearch(opened, **network)

    def service(opened: SimilarityIndex) -> SearchService:
        return SearchService(search(opened), Pictures(opened, roots, pixels=limits.pixels), limits)

    with listening(host, port) as listener:
        live = LiveService(index, service, search)
        live.current().warm()
        live.current().pictures.log_folders()
        if not is_local(listener.getsockname()[0]):
            _log.warning(
                "Whoever reaches this machine at port %d sees these images: there is no password.",
                listener.getsockname()[1],
            )
        app = create_app(live, Hosts.of(host, names))
        server = server_of(app)
        with throttled_logs(), _quiet_end():
            if ready is not None:
                ready(_address(listener, host))
            server.run(sockets=[listener])


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Take SIGTERM for an order that has been obeyed: uvicorn stops and then raises it again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def server_of(app: App, patience: Patience | None = None) -> uvicorn.Server:
    """Return what runs an application: ``run(sockets=[...])`` until its ``should_exit`` is set."""
    import uvicorn

    from vggfeat.web.connections import Connection, Patience

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            for listener in sockets or ():
                listener.listen(_QUEUE)

    patience = patience or Patience()
    config = uvicorn.Config(
        app,
        http=partial(Connection, patience=patience),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # So many are accepted in one go, before any is counted; the queue itself may be longer.
        backlog=_AT_ONCE,
        timeout_graceful_shutdown=patience.stopping,
    )
    return Server(config)


def _check_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ServeError(
            f'The page needs {error.name}, which is not installed: `pip install "vggfeat[web]"`.'
        ) from error


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens, as :func:`server_of` wants it.

    Raises
    ------
    ServeError
        The address cannot be listened at.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_QUEUE)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)  # inherited
        return listener
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServeError(
            f"Cannot listen at {host} port {port}: {error}. Choose another with --host and "
            "--port; port 0 takes a free one."
        ) from error


def _address(listener: socket.socket, host: str) -> str:
    """Return an address that leads here: where it listens at all of them, one of this machine's."""
    name, port = listener.getsockname()[:2]
    if ipaddress.ip_address(name).is_unspecified:
        name = _outward(listener.family, name)
    elif not is_local(name) and not is_local(host):
        name = host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def _outward(family: int, everywhere: str) -> str:
    """Return the address by which this machine is known to the network it reaches others by."""
    beyond = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"  # nobody's
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((beyond, 9))  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:  # no network
        return "::1" if everywhere == "::" else "127.0.0.1"
