"""Promises of the page and its API: a real server process, asked over the network."""

from __future__ import annotations

import io
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from conftest import BUSY, draw, heed_interrupts, needs_proc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vggfeat import FeatureExtractor
from vggfeat.index import Neighbour, SimilarityIndex, catalogue_file
from vggfeat.index.rows import Texts
from vggfeat.queries import ImageSearch
from vggfeat.regions import Region
from vggfeat.store import FeatureStore
from vggfeat.web.app import create_app
from vggfeat.web.connections import Patience
from vggfeat.web.limits import LINGER_BYTES, Limits
from vggfeat.web.live import LiveService
from vggfeat.web.pictures import Cache, Pictures
from vggfeat.web.service import SearchService
from vggfeat.web.serving import listening, server_of

try:
    import resource
except ImportError:  # Windows
    resource = None

MIB = 1 << 20
WAIT = 300
"""Seconds for an answer, so that a server that hangs fails one test and not all of them."""
LIMITS = Limits(upload=2 * MIB, pixels=4_000_000)
"""Those of the server that most tests ask."""


@pytest.fixture(scope="module")
def index(scenes_store: Path, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "scenes.index"
    with FeatureStore(scenes_store) as store:
        SimilarityIndex.build(store, "pool5", path=path)
    return path


def as_usual() -> None:
    """Let a process have as many open files as most systems allow."""
    heed_interrupts()
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))


@contextmanager
def serving(index: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server on a free port; give it and its address."""
    command = [sys.executable, "-m", "vggfeat", "serve", str(index), "--port", "0", *options]
    server = subprocess.Popen(
        [*command, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_usual,
    )
    try:
        line = server.stdout.readline()
        assert " at http://127.0.0.1:" in line, line + server.stderr.read()
        yield server, line.split(" at ")[1].split()[0]
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        try:
            server.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()


def app_of(index: Path, limits: Limits | None = None, roots: Sequence[str] = (), **guarded) -> Any:
    """Return what a server of an index runs."""

    def search(opened: SimilarityIndex) -> ImageSearch:
        return ImageSearch(opened, device="cpu")

    def service(opened: SimilarityIndex) -> SearchService:
        return SearchService(search(opened), Pictures(opened, roots), limits or Limits())

    return create_app(LiveService(index, service, search), **guarded)


@contextmanager
def within_this_process(
    index: Path, limits: Limits | None = None, patience: Patience | None = None, **given
) -> Iterator[httpx.Client]:
    """Run a server in a thread, which starts far faster than a process; give its client."""
    with running(server_of(app_of(index, limits, **given), patience)) as client:
        yield client


@contextmanager
def running(server: uvicorn.Server) -> Iterator[httpx.Client]:
    """Run a server in a thread; give a client of it."""
    listener = listening("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    try:
        with httpx.Client(base_url=address, trust_env=False, timeout=WAIT) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def server(index: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with serving(index, "--max-upload", "2", "--max-pixels", str(LIMITS.pixels)) as found:
        yield found


@pytest.fixture(scope="module")
def address(server) -> str:
    return server[1]


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=WAIT, trust_env=False) as made:
        yield made


@pytest.fixture(scope="module")
def opened(index: Path) -> SimilarityIndex:
    return SimilarityIndex.open(index)


def ask(client, image=None, **fields):
    files = None if image is None else {"image": ("query.jpg", image)}
    answer = client.post("/api/search", data=fields, files=files)
    assert answer.status_code == 200, answer.text
    return answer.json()["neighbours"]


def as_json(neighbours):
    return [one.to_json() for one in neighbours]


def same(found, expected):
    assert [one["id"] for one in found] == [one.id for one in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["path"] == theirs.path
        assert ours["score"] == pytest.approx(theirs.score, abs=1e-5)


def test_the_server_tells_what_it_serves(client):
    info = client.get("/api/info").json()
    assert (info["name"], info["images"], info["metric"]) == ("scenes.index", 48, "cosine")
    assert info["labels"] == ["china", "flower"]
    assert info["limits"]["upload_bytes"] == 2 * MIB


def test_an_uploaded_photo_finds_what_the_index_finds(client, opened, scenes):
    photo = scenes / "flower" / "07.jpg"
    (answer,) = ImageSearch(opened, device="cpu").search([str(photo)], 6)
    found = ask(client, photo.read_bytes(), k=6)
    same(found, answer.neighbours)
    assert found[0]["path"] == "flower/07.jpg"


def test_an_indexed_image_finds_its_neighbours_without_itself(client, opened):
    (expected,) = opened.search(opened.vectors[[3]], 6, prepared=True)
    found = ask(client, id=3, k=5)
    same(found, expected[1:])
    assert [one["rank"] for one in found] == [1, 2, 3, 4, 5]


def test_filters_hold_during_the_search(client, opened):
    found = ask(client, id=3, k=10, path="flower/*")
    (expected,) = opened.search(
        opened.vectors[[3]], 10, within=opened.select(paths=["flower/*"]), prepared=True
    )
    same(found, expected)
    found = ask(client, id=3, k=40, label="flower", path=["*/0?.jpg", "*/1?.jpg"])
    assert len(found) == 20
    assert {one["label"] for one in found} == {"flower"}


def test_a_box_searches_for_that_part_of_a_photo(client, opened, scenes):
    photo = scenes / "china" / "05.jpg"
    searcher = ImageSearch(opened, device="cpu")
    (answer,) = searcher.search([str(photo)], 5, box=Region(10, 20, 80, 60))
    same(ask(client, photo.read_bytes(), k=5, box="10,20,80,60"), answer.neighbours)
    (image_id,) = opened.ids_of(["china/05.jpg"])
    found = ask(client, id=int(image_id), k=5, box="0%,0%,100%,100%")
    same(found, [Neighbour(**one) for one in ask(client, id=int(image_id), k=5)])


def test_counterexamples_push_answers_away(client, opened):
    unlike = [one["id"] for one in ask(client, id=3, k=2)]
    query = opened.vectors[3] - 0.2 * opened.vectors[unlike].mean(axis=0)
    similarity = opened.vectors @ (query / np.linalg.norm(query))
    similarity[[3, *unlike]] = -2
    found = ask(client, id=3, k=9, unlike=unlike)
    assert [one["id"] for one in found] == list(np.argsort(-similarity)[:9])
    assert [one["score"] for one in found] == pytest.approx(np.sort(-similarity)[:9] * -1, abs=1e-5)
    assert len(ask(client, id=3, k=500, unlike=unlike)) == 45
    assert len(ask(client, id=3, k=500, unlike=3)) == 47


def test_thumbnails_are_small_jpegs_that_are_asked_for_once(client):
    from PIL import Image

    first = client.get("/api/thumbnail/3")
    assert first.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(first.content)).size) <= 240
    again = client.get("/api/thumbnail/3", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/api/thumbnail/4").headers["etag"] != first.headers["etag"]
    assert client.get("/api/thumbnail/3?side=99999").status_code == 400


def test_thumbnails_with_the_generation_may_be_kept_by_the_browser(client, opened):
    plain = client.get("/api/thumbnail/3")
    assert plain.headers["cache-control"] == "private, no-cache"
    kept = client.get("/api/thumbnail/3", params={"generation": opened.generation})
    assert kept.headers["cache-control"] == "private, max-age=86400"
    assert kept.content == plain.content
    assert client.get("/api/thumbnail/3?generation=other").status_code == 409


def test_thumbnails_take_no_more_memory_than_they_may(opened, monkeypatch):
    sizes = {image_id: len(Pictures(opened).thumbnail(image_id, 240)) for image_id in range(6)}
    cache = Cache(sum(sizes.values()) - 1)
    pictures = Pictures(opened, cache=cache)
    for image_id in range(6):
        pictures.thumbnail(image_id, 240)
    kept = [cache.get(pictures.tag(image_id, 240)) for image_id in range(6)]
    assert kept[0] is None  # the one asked for longest ago
    assert [len(one) for one in kept[1:]] == [sizes[image_id] for image_id in range(1, 6)]
    monkeypatch.setattr(Pictures, "original", None)
    assert len(pictures.with_index(opened).thumbnail(5, 240)) == sizes[5]


def test_originals_are_the_files_themselves(client, opened, scenes):
    answer = client.get("/api/original/3")
    assert answer.content == (scenes / opened.path(3)).read_bytes()
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''03.jpg"
    for image_id in (48, -1):
        assert client.get(f"/api/original/{image_id}").status_code == 404


def takes_requests(address: str) -> bool:
    try:
        httpx.get(f"{address}api/info", trust_env=False)
    except httpx.TransportError:
        return False
    return True


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_stop_lets_the_request_under_way_end(index, scenes, number, status):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        + (scenes / "flower" / "07.jpg").read_bytes()
        + b"\r\n--x--\r\n"
    )
    head = (
        "POST /api/search HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    with serving(index) as (server, address):
        port = int(address.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            client.sendall(head.encode())
            assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"  # it has taken it up
            client.sendall(body[:2000])
            server.send_signal(number)
            while takes_requests(address):
                time.sleep(0.05)
            client.sendall(body[2000:])
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"flower/07.jpg" in answer
        _, errors = server.communicate(timeout=WAIT)
        assert server.returncode == status
        assert "Traceback" not in errors


def test_a_changed_index_is_taken_up_by_the_running_server(index, scenes_store, tmp_path):
    own = tmp_path / "own.index"
    shutil.copytree(index, own)
    with (
        serving(own, "--quiet") as (server, address),
        httpx.Client(base_url=address, timeout=WAIT, trust_env=False) as client,
    ):
        before = client.get("/api/info").json()
        gone = ask(client, id=3, k=2)
        changed = SimilarityIndex.open(own)
        changed.remove([gone[0]["path"]])
        removed = client.get("/api/info").json()
        assert (removed["images"], removed["generation"]) == (47, before["generation"])
        assert ask(client, id=3, k=1)[0]["path"] == gone[1]["path"]
        assert client.get(f"/api/thumbnail/{gone[0]['id']}").status_code == 404

        with FeatureStore(scenes_store) as store:
            changed.add(store, again=True)
        again = ask(client, id=3, k=1, generation=before["generation"])
        assert (again[0]["path"], again[0]["id"]) == (gone[0]["path"], 48)

        changed.compact()
        fields = {"id": 48, "generation": before["generation"]}
        stale = client.post("/api/search", data=fields)
        assert stale.status_code == 409
        assert "other ids" in stale.json()["error"]
        assert client.get("/api/info").json()["images"] == 48
        photo = {"image": client.get("/api/original/0").content}
        stale = {"generation": before["generation"], "k": 3}
        assert len(client.post("/api/search", data=stale, files=photo).json()["neighbours"]) == 3

        with FeatureStore(scenes_store) as store:
            SimilarityIndex.build(store, "relu7", path=own, metric="l2")
        answer = client.post("/api/search", files=photo)
        assert answer.json()["metric"] == "l2"
        assert answer.json()["neighbours"][0]["score"] == pytest.approx(0, abs=1e-2)

        catalogue = (own / "index.h5").read_bytes()
        (own / "index.h5").write_bytes(catalogue[:-100] + bytes(100))
        assert len(ask(client, id=3, k=5)) == 5  # from the index as it was
        assert server.poll() is None


TRAVERSALS = ("../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "3/../../x", "%00")


def parameters(client):
    """Return every parameter of the API: its method, path, place and name."""
    description = client.get("/openapi.json").json()
    for path, methods in description["paths"].items():
        for method, about in methods.items():
            for one in about.get("parameters", []):
                yield method, path, one["in"], one["name"]
            for body in about.get("requestBody", {}).get("content", {}).values():
                form = body["schema"]["$ref"].rpartition("/")[2]
                for name in description["components"]["schemas"][form]["properties"]:
                    yield method, path, "form", name


@pytest.mark.parametrize("text", TRAVERSALS)
def test_no_parameter_leads_to_other_files(client, text):
    seen = set()
    for method, path, where, name in parameters(client):
        seen.add(name)
        real = path.replace("{id}", text if where == "path" else "3")
        query = {name: text} if where == "query" else None
        other = {"neighbour": "4"} if path == "/api/explain" else {}
        if where != "form":
            answer = client.request(method, real, params=query)
        elif name == "image":
            photo = client.get("/api/original/3").content
            answer = client.post(real, files={"image": (text, photo)}, data=other)
            assert answer.status_code == 200, "a file's name means nothing"
            continue
        else:
            answer = client.post(real, data={"id": "3"} | other | {name: text})
        if name == "path":  # a pattern that fits nothing
            found = answer.json().get("neighbours", answer.json().get("images"))
            assert (answer.status_code, found) == (200, [])
            continue
        assert answer.status_code in (400, 404, 409, 422), (path, name)
        assert b"root:" not in answer.content
        assert answer.json()["error"]
    named = {"id", "side", "k", "path", "label", "box", "unlike", "generation", "image"}
    assert seen == named | {"neighbour"}
    for path in (f"/static/{text}", f"/{text}", f"/api/{text}"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert b"root:" not in answer.content


def chunk(name: bytes, content: bytes) -> bytes:
    """Return one of the parts that PNG files are made of."""
    checksum = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + checksum


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a black PNG image with chunks of one's own."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    parts = (chunk(b"IHDR", head), *chunks, chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def zeros(size: int) -> bytes:
    """Return so many zeros, compressed."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()


def with_size(image: bytes, kind: str) -> bytes:
    """Return an image whose header says that it is 60,000 x 60,000 pixels."""
    side = 60_000
    if kind == "GIF":
        return image[:6] + struct.pack("<HH", side, side) + image[10:]
    at = image.index(b"\xff\xc0") + 5
    return image[:at] + struct.pack(">HH", side, side) + image[at + 4 :]


def small(kind: str) -> bytes:
    file = io.BytesIO()
    draw(64, 64).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("bomb", "refused"),
    [
        (png(20_000, 20_000), True),
        (with_size(small("JPEG"), "JPEG"), True),
        (with_size(small("GIF"), "GIF"), True),
        # Their pixels are few, and what swells is never unpacked, or not as far.
        (png(90, 90, chunk(b"iCCP", b"icc\0\0" + zeros(800 * MIB))), False),
        (png(90, 90, chunk(b"zTXt", b"text\0\0" + zeros(800 * MIB))), False),
    ],
    ids=["pixels", "jpeg-header", "gif-header", "profile", "text"],
)
@needs_proc
def test_bombs_neither_fill_the_memory_nor_end_the_server(server, client, bomb, refused):
    ask(client, small("JPEG"))  # the network has run
    before = peak(server)
    answer = client.post("/api/search", files={"image": ("photo", bomb)})
    assert answer.status_code == 400 if refused else answer.status_code in (200, 400)
    assert not refused or "too large" in answer.json()["error"]
    assert peak(server) - before <= LIMITS.request_bytes
    assert len(ask(client, id=1, k=3)) == 3


def peak(server) -> int:
    """Return the peak memory of a server in bytes."""
    status = Path(f"/proc/{server[0].pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"I am a text.\n" * 50, "not an image"),
        (b"", "empty file"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 400, "JPEG"),
    ],
)
def test_a_broken_upload_is_refused_with_its_reason_and_the_server_goes_on(client, content, reason):
    answer = client.post("/api/search", files={"image": ("photo.jpg", content)})
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert len(ask(client, id=1, k=3)) == 3


def test_broken_forms_are_refused(client):
    kind = "multipart/form-data; boundary=x"
    for content in (b"--x\r\nrubbish", b"", b"--x\r\nContent-Disposition: form-data\r\n\r\n--x--"):
        for header in (kind, "multipart/form-data", "application/json"):
            answer = client.post("/api/search", content=content, headers={"content-type": header})
            assert 400 <= answer.status_code < 500
            assert answer.json()["error"]
    for fields in ({}, {"id": 3, "k": 0}, {"id": 3, "k": 10**9}, {"id": 10**30}):
        assert client.post("/api/search", data=fields).status_code in (400, 422)
    many = {f"field{number}": "x" for number in range(3000)}
    assert client.post("/api/search", data=many).status_code in (400, 422)
    assert client.post("/api/search", files=many).status_code in (400, 422)
    gigantic = client.post("/api/search", files={"id": (None, b"3" * MIB)})
    assert 400 <= gigantic.status_code < 500
    both = client.post("/api/search", data={"id": 3}, files={"image": ("a.jpg", b"x")})
    assert "either" in both.json()["error"]


def socket_bytes() -> int:
    """Return how much Linux keeps of what was sent and not yet read, on both sides."""
    files = [Path("/proc/sys/net/ipv4", name) for name in ("tcp_rmem", "tcp_wmem")]
    return sum(int(file.read_text().split()[2]) for file in files)


@needs_proc
def test_uploads_of_2_gb_are_refused_before_they_are_read(client, server):
    address = server[1]
    ask(client, small("JPEG"))  # the network has run
    before = peak(server)
    sent = 0

    def pieces():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        for _ in range(2000):
            sent += MIB
            yield b"x" * MIB

    # What is read, what is read on and dropped, what the system keeps of a connection, and a piece.
    taken = LIMITS.body + LINGER_BYTES + socket_bytes() + MIB
    kind = {"content-type": "multipart/form-data; boundary=x"}
    try:
        declared = kind | {"content-length": str(2000 * MIB)}
        answer = httpx.post(
            f"{address}api/search", content=pieces(), headers=declared, trust_env=False
        )
        assert answer.status_code == 413
        assert "larger than" in answer.json()["error"]
    except httpx.TransportError:  # the connection was closed while we were sending
        pass
    assert sent <= taken
    sent = 0
    try:
        answer = httpx.post(f"{address}api/search", content=pieces(), headers=kind, trust_env=False)
        assert answer.status_code == 413
    except httpx.TransportError:
        pass
    assert sent <= taken
    assert peak(server) - before <= LIMITS.request_bytes
    assert len(ask(client, id=1, k=3)) == 3


@settings(max_examples=40, suppress_health_check=[*BUSY, HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 300)), max_size=4),
    noise=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12),
)
def test_no_broken_form_ends_the_server(client, scenes, cuts, noise):
    photo = (scenes / "flower" / "07.jpg").read_bytes()
    fields = {"k": "3", "box": "1,2,30,40", "path": "*", "unlike": "3"}
    whole = httpx.Request("POST", "http://x/", data=fields, files={"image": ("a.jpg", photo)})
    body = bytearray(whole.read())
    edge = len(body) - len(photo) // 2  # mostly in the form, not in the photo
    for at, length in cuts:
        del body[at % edge : at % edge + length]
    for at, byte in noise:
        body[at % len(body)] = byte
    kind = {"content-type": whole.headers["content-type"]}
    answer = client.post("/api/search", content=bytes(body), headers=kind)
    assert answer.status_code in (200, 400, 422)
    assert ("neighbours" in answer.json()) == (answer.status_code == 200)


def test_one_upload_beyond_the_limit_says_why(client):
    answer = client.post("/api/search", files={"image": ("a.jpg", b"x" * (2 * MIB + 70_000))})
    assert answer.status_code == 413
    assert "larger than" in answer.json()["error"]


def test_1150_half_sent_requests_shut_nobody_out(server, client, address):
    if resource is None:
        pytest.skip("Windows limits no open files")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip(f"this machine allows {hard} open files a process")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    try:
        with ExitStack() as idle:
            for number in range(1150):
                half = socket.create_connection(("127.0.0.1", httpx.URL(address).port))
                idle.enter_context(half).sendall(b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n")
                if number % 50 == 0:
                    assert client.get("/api/info").status_code == 200
            for _ in range(5):
                with httpx.Client(base_url=address, trust_env=False, timeout=WAIT) as other:
                    assert other.get("/api/info").status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server[0].poll() is None


def test_other_sites_get_nothing(client):
    answer = client.get("/api/info", headers={"host": "evil.example"})
    assert answer.status_code == 403
    answer = client.post("/api/search", data={"id": 3}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


def test_pages_load_nothing_from_elsewhere(client):
    for path in ("/", "/api", "/static/page.js", "/static/page.css"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "https://" not in answer.text
    assert "http://" not in client.get("/").text
    paths = client.get("/openapi.json").json()["paths"]
    pictures = {"/api/thumbnail/{id}", "/api/original/{id}"}
    assert set(paths) == {"/api/info", "/api/sample", "/api/search", "/api/explain"} | pictures


def test_originals_that_lie_outside_the_source_are_not_shown(tmp_path):
    photos, outside = tmp_path / "photos", tmp_path / "outside.jpg"
    photos.mkdir()
    draw(90, 90).save(outside)
    for seed, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        draw(90, 90, seed=seed).save(photos / name)
    (photos / "d.jpg").symlink_to(outside)
    extractor = FeatureExtractor("vgg16-tiny", layers="pool2", device="cpu")
    extractor.extract(photos, tmp_path / "s.h5", progress=False)
    with FeatureStore(tmp_path / "s.h5") as store:
        SimilarityIndex.build(store, "pool2", path=tmp_path / "x.index")
    (photos / "b.jpg").unlink()
    (photos / "b.jpg").symlink_to("/etc/passwd")
    (photos / "c.jpg").unlink()
    (photos / "c.jpg").symlink_to("a.jpg")
    for roots, shown in (((), "ac"), ([str(tmp_path)], "acd")):
        with within_this_process(tmp_path / "x.index", roots=roots) as client:
            for image_id, name in enumerate("abcd"):
                for kind in ("original", "thumbnail"):
                    answer = client.get(f"/api/{kind}/{image_id}")
                    assert answer.status_code == (200 if name in shown else 404), (name, kind)
                    assert b"root:" not in answer.content
                data = {"id": image_id, "box": "0,0,50,50"}
                answer = client.post("/api/search", data=data)
                assert answer.status_code == (200 if name in shown else 400)


def handed_over(index: Path, to: Path, source: str, paths: list[str]) -> Path:
    """Make what a stranger may send: an index whose source and first paths are of his choice."""
    shutil.copytree(index, to)
    opened = SimilarityIndex.open(index)
    catalogue = opened.catalogue
    texts = [*paths, *list(catalogue.rows.paths)[len(paths) :]]
    evil = replace(
        catalogue,
        sources=tuple(replace(one, source=source) for one in catalogue.sources),
        rows=replace(catalogue.rows, paths=Texts.of(texts)),
    )
    (to / "index.h5").unlink()
    catalogue_file.write(evil, to / "index.h5")
    return to


@pytest.mark.skipif(sys.platform == "win32", reason="paths of POSIX")
@pytest.mark.parametrize("source", ["/", "/proc/self/environ", "FILE"])
def test_a_stranger_s_index_gives_out_no_file_of_this_machine(index, tmp_path, source):
    photo = tmp_path / "private" / "photo.jpg"
    photo.parent.mkdir()
    draw(90, 90).save(photo)
    key = tmp_path / "private" / "id_rsa"
    key.write_text("root:PRIVATE KEY\n" * 9)
    named = str(photo) if source == "FILE" else source
    paths = ["/proc/self/environ", "/etc/passwd", str(photo), str(key), str(photo)[1:], "id_rsa"]
    evil = handed_over(index, tmp_path / "x.index", named, paths)
    with within_this_process(evil) as client:
        for image_id in range(len(paths)):
            for kind in ("original", "thumbnail"):
                answer = client.get(f"/api/{kind}/{image_id}")
                assert answer.status_code == 404, (kind, paths[image_id])
                assert answer.headers["content-type"] == "application/json"
            boxed = client.post("/api/search", data={"id": image_id, "box": "0,0,50,50"})
            assert boxed.status_code == 400
        assert client.get("/api/info").status_code == 200


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT)


def test_a_missing_extra_and_a_taken_port_are_told_with_the_remedy(index, address):
    blocked = "import sys; sys.modules['fastapi'] = None; from vggfeat.cli import run; run()"
    done = run(blocked, "serve", str(index))
    assert done.returncode == 1
    assert 'pip install "vggfeat[web]"' in done.stderr
    port = address.rstrip("/").rpartition(":")[2]
    done = run("from vggfeat.cli import run; run()", "serve", str(index), "--port", port)
    assert done.returncode == 1
    assert "Choose another" in done.stderr
