"""Promises of the server to those who wait, beside clients that stop halfway."""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import httpx
import pytest
from conftest import draw
from test_serve import (
    WAIT,
    app_of,
    handed_over,
    index,  # noqa: F401 (a fixture)
    running,
    within_this_process,
)

from vggfeat.web.connections import Patience, most_connections
from vggfeat.web.log_throttle import LogThrottle
from vggfeat.web.serving import server_of

QUICK = Patience(
    head=1.5, body=1.5, rate=1 << 20, taking=0.4, closing=0.4, stopping=1, look=0.05, connections=20
)
NEVER = 1e6
HEAD = b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n"
FORM = (
    b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
)


@pytest.fixture(scope="module")
def quick(index) -> Iterator[httpx.Client]:  # noqa: F811
    with within_this_process(index, patience=QUICK) as client:
        yield client


@contextmanager
def connected(client: httpx.Client, sent: bytes = b"") -> Iterator[socket.socket]:
    url = client.base_url
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(WAIT)
        made.connect((url.host, url.port))
        made.sendall(sent)
        yield made


def rest(made: socket.socket) -> bytes:
    """Return what comes until the connection is closed."""
    return b"".join(iter(lambda: made.recv(1 << 16), b""))


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, FORM], ids=["nothing", "byte", "head", "body"])
def test_a_request_that_does_not_end_is_given_up(quick, sent):
    with connected(quick, sent) as made:
        answer = rest(made)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"in time" in answer
    assert quick.get("/api/info").status_code == 200


def test_a_body_that_drips_is_given_up(quick):
    with connected(quick, FORM) as made:
        sent = 0
        with suppress(ConnectionError):  # 20 KiB a second, never quiet
            while sent < 1_000_000:
                sent += made.send(b"x" * 200)
                time.sleep(0.01)
        assert sent < 1_000_000


def test_a_body_that_pauses_for_a_moment_is_taken(index, scenes):  # noqa: F811
    photo = (scenes / "flower" / "07.jpg").read_bytes()
    # As patient as it is by default, but looking more often.
    with within_this_process(index, patience=Patience(look=0.05)) as client:
        request = client.build_request("POST", "/api/search", files={"image": ("a.jpg", photo)})
        whole = request.read()
        head = FORM.split(b"\r\n\r\n")[0].replace(b"1000000", str(len(whole)).encode())
        kind = request.headers["content-type"].encode()
        head = head.replace(b"multipart/form-data; boundary=x", kind)
        with connected(client, head + b"\r\n\r\n" + whole[:1000]) as made:
            time.sleep(0.3)  # the pause: six looks at least
            made.sendall(whole[1000:])
            assert made.recv(20).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_its_answer_is_given_up(index, tmp_path):  # noqa: F811
    photos = tmp_path / "photos"
    photos.mkdir()
    named = handed_over(index, tmp_path / "x.index", str(photos), ["a.jpg"])
    draw(90, 90).save(photos / "a.jpg")
    with (photos / "a.jpg").open("ab") as file:
        file.write(bytes(20 << 20))  # what follows the image's end is no part of it
    server = server_of(app_of(named), QUICK)
    with running(server) as client:
        ask = b"GET /api/original/0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with connected(client, ask) as made:
            assert made.recv(1) == b"H"  # the answer has begun
            while server.server_state.connections:
                time.sleep(0.01)
            try:
                taken = len(rest(made))
            except ConnectionResetError:
                taken = 0
            assert taken < 20 << 20
        assert len(client.get("/api/original/0").content) > 20 << 20


def test_idle_connections_shut_nobody_out(quick):
    with ExitStack() as idle:
        for number in range(4 * QUICK.connections):
            idle.enter_context(connected(quick, HEAD if number % 2 else b""))
            if number % 10 == 0:
                assert quick.get("/api/info").status_code == 200
        with httpx.Client(base_url=quick.base_url, trust_env=False) as other:
            assert other.get("/api/info").status_code == 200


def test_a_client_between_two_requests_stays_while_silent_ones_come_and_go(index):  # noqa: F811
    patient = Patience(head=NEVER, body=NEVER, connections=5)
    with within_this_process(index, patience=patient) as client, connected(client) as first:
        for _ in range(2):
            first.sendall(HEAD + b"\r\n")
            answer = http.client.HTTPResponse(first)
            answer.begin()
            assert (answer.status, bool(answer.read())) == (200, True)
            waiting: list[socket.socket] = []
            with ExitStack() as idle:
                for number in range(20):
                    made = idle.enter_context(connected(client, HEAD if number % 2 else b""))
                    waiting.append(made)
                    if len(waiting) > 4:  # the oldest of these is let go
                        assert rest(waiting.pop(0)).startswith(b"HTTP/1.1 408 ")


def test_more_clients_than_there_is_room_for_are_told_so():
    begun, end = threading.Event(), threading.Event()

    async def app(scope, receive, send):  # an answer that takes its time
        assert scope["type"] == "http"
        begun.set()
        while not end.is_set():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with (
        running(server_of(app, replace(QUICK, connections=1))) as client,
        connected(client, HEAD + b"\r\n") as first,
    ):
        assert begun.wait(WAIT)
        with connected(client) as second:
            assert rest(second).startswith(b"HTTP/1.1 503 ")
        end.set()
        assert first.recv(1000).startswith(b"HTTP/1.1 204 ")


def test_connections_stay_below_the_limit_of_open_files():
    resource = pytest.importorskip("resource")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 16 <= most_connections() <= 1000
    assert soft == resource.RLIM_INFINITY or 2 * most_connections() < max(soft, 33)


def test_a_client_that_stalls_does_not_keep_the_server_from_stopping(index):  # noqa: F811
    patient = Patience(head=NEVER, body=NEVER, taking=NEVER, closing=NEVER, stopping=1)
    with ExitStack() as stack:
        client = stack.enter_context(within_this_process(index, patience=patient))
        hold = ExitStack()
        for sent in (b"", HEAD, FORM):
            hold.enter_context(connected(client, sent))
        assert client.get("/api/info").status_code == 200
        stack.close()  # comes to an end, although none of these does
        hold.close()


def test_the_log_does_not_repeat_itself(caplog):
    log = logging.getLogger("uvicorn.error")
    now = 0.0
    only = LogThrottle(every=60, clock=lambda: now)
    log.addFilter(only)
    try:
        for number in range(1002):
            now = 61.0 if number == 1001 else number / 100
            log.warning("Invalid HTTP request received %d.", number)
    finally:
        log.removeFilter(only)
    first, second = caplog.messages
    assert first == "Invalid HTTP request received 0."
    assert second == "Invalid HTTP request received 1001. (and 1,000 times more since)"
