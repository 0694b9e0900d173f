"""Servers on loopback that tests read from: S3 (moto's), the web, and a line that breaks."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, unquote

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
    with WebServer(folder, **options) as server, _running(server):
        yield server


@contextmanager
def hub_server(files: dict[str, bytes]) -> Iterator[str]:
    """Serve files as the dataset o/n of a hub, and as Google's bucket; give the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server, _running(server):
        server.files = files  # type: ignore[attr-defined]
        yield f"http://127.0.0.1:{server.server_address[1]}"


@contextmanager
def _running(server: http.server.HTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


class _Hub(http.server.BaseHTTPRequestHandler):
    """What vggfeat asks of the Hugging Face hub, and of Google Cloud Storage."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        path, files = unquote(path), self.server.files  # type: ignore[attr-defined]
        if re.fullmatch(r"/api/datasets/o/n(/revision/.*)?", path):
            return self._tell({"id": "o/n", "sha": "a" * 40, "_id": "1", "siblings": []})
        if match := re.fullmatch(r"/api/datasets/o/n/tree/a{40}/?(.*)", path):
            found = {name: data for name, data in files.items() if name.startswith(match[1])}
            return self._tell(
                [
                    {"type": "file", "oid": _version(data), "size": len(data), "path": name}
                    for name, data in found.items()
                ]
            )
        if match := re.fullmatch(r"/datasets/o/n/resolve/a{40}/(.*)", path):
            return self._send(files[match[1]])
        if path == "/storage/v1/b/bucket/o":
            prefix = dict(parse_qsl(query)).get("prefix", "")
            found = {name: data for name, data in files.items() if name.startswith(prefix)}
            return self._tell({"items": [_object(*one) for one in found.items()]})
        match = re.fullmatch(r"(/download)?/storage/v1/b/bucket/o/(.*)", path)
        if match and match[2] in files:
            data = files[match[2]]
            return self._send(data) if match[1] else self._tell(_object(match[2], data))
        return self._tell({"error": {"code": 404, "message": "none"}}, 404)

    def _tell(self, told: Any, status: int = 200) -> None:
        self._send(json.dumps(told).encode(), status)

    def _send(self, data: bytes, status: int = 200) -> None:
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(part[1]), int(part[2]) + 1) if part else (0, len(data))
        self.send_response(206 if part else status)
        if part:
            last = min(end, len(data)) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(data)}")
        self.send_header("X-Goog-Generation", str(int(_version(data)[:12], 16)))
        self.send_header("Last-Modified", "Sun, 29 Nov 2026 12:00:00 GMT")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data[start:end])))
        self.end_headers()
        self.wfile.write(data[start:end])

    def log_message(self, *args: object) -> None:
        pass


def _version(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _object(name: str, data: bytes) -> dict[str, str]:
    generation = str(int(_version(data)[:12], 16))
    told = {"name": name, "bucket": "bucket", "size": str(len(data)), "generation": generation}
    return told | {"updated": "2026-11-29T12:00:00.123Z", "kind": "storage#object"}


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
