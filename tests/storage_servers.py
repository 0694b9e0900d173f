"""Servers on loopback that tests read from: S3 (moto's), the web, and a line that breaks."""

from __future__ import annotations

import http.server
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

KEY, SECRET = "AKIDTESTINGONLY", "a-secret-that-nobody-may-see"


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3 server on a free port; give its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def environment(endpoint: str) -> Iterator[None]:
    """Set the credentials and the endpoint of S3, and nothing of the machine's own."""
    variables = {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1,localhost",
    }  # fmt: skip
    with patch.dict(os.environ, variables):
        os.environ.pop("AWS_PROFILE", None)
        yield


class Bucket:
    """A bucket of the server that the environment names."""

    def __init__(self, name: str) -> None:
        import boto3

        self.name, self._s3 = name, boto3.client("s3")
        self._s3.create_bucket(Bucket=name)

    def put(self, key: str, data: bytes) -> str:
        """Put an object there; return its URL."""
        self._s3.put_object(Bucket=self.name, Key=key, Body=data)
        return f"s3://{self.name}/{key}"

    def put_tree(self, folder: Path, prefix: str) -> str:
        """Put all files below a folder there; return the URL of the folder."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"s3://{self.name}/{prefix}"

    def remove(self, key: str) -> None:
        """Remove an object."""
        self._s3.delete_object(Bucket=self.name, Key=key)


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files with ETags, and with parts of them where the server gives any."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        path, _, query = self.path.partition("?")
        file = Path(self.translate_path(path))
        if server.signature and query != server.signature:
            return self.send_error(403)
        if not file.is_file():
            return self.send_error(404)
        data = file.read_bytes()
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = 0, len(data)
        if part and server.ranges:
            start, end = int(part[1]), min(int(part[2]) + 1, len(data))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        state = file.stat()
        self.send_header("ETag", f'"{state.st_mtime_ns:x}-{state.st_size:x}"')
        self.send_header("Last-Modified", self.date_time_string(state.st_mtime))
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(data[start:end])
        return None

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()


class WebServer(http.server.ThreadingHTTPServer):
    """A web server of a folder.

    Attributes
    ----------
    asked : list of str
        What was asked for.
    """

    daemon_threads = True

    def __init__(self, folder: Path, *, ranges: bool = True, signature: str = "") -> None:
        handler = lambda *args: _Files(*args, directory=str(folder))  # noqa: E731
        super().__init__(("127.0.0.1", 0), handler)
        self.ranges, self.signature, self.asked = ranges, signature, list[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def web_server(folder: Path, **options: Any) -> Iterator[WebServer]:
    """Serve a folder on a free port."""
    with WebServer(folder, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class BadLine:
    """A proxy of bytes that drops connections.

    Attributes
    ----------
    good : int
        Bytes of answers that a connection carries before it is cut; -1 for all.
    cuts : int
        How many connections are cut, then all is well; -1 for all.
    cut : int
        How many were.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition("/")[2].partition(":")
        self._target = host, int(port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.good, self.cuts, self.cut = -1, 0, 0
        self._turn = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            back = threading.Thread(target=_pump, args=(client, server), daemon=True)
            back.start()
            carried = 0
            while data := _received(server):
                with self._turn:
                    cut = self.cut < self.cuts or self.cuts < 0
                    over = self.good >= 0 and carried + len(data) > self.good
                    if cut and over:
                        self.cut += 1
                if cut and over:
                    data = data[: self.good - carried]
                    if data:
                        client.sendall(data)
                    break
                client.sendall(data)
                carried += len(data)
            for one in (client, server):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _pump(source: socket.socket, target: socket.socket) -> None:
    while data := _received(source):
        try:
            target.sendall(data)
        except OSError:
            return
