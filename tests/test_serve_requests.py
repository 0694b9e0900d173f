"""Promises of the API about what is sent: kinds of bodies, sizes, and who may send."""

from __future__ import annotations

import base64
import io
import shutil
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image
from test_serve import ask, index, png, within_this_process  # noqa: F401 (index: a fixture)

from vggfeat.cli.serve import serve as command
from vggfeat.images import MAX_PIXELS, size_of
from vggfeat.regions import Region
from vggfeat.web.budget import PixelBudget
from vggfeat.web.guarding import Hosts, host_of
from vggfeat.web.limits import Limits
from vggfeat.web.serving import _address, listening


@pytest.fixture(scope="module")
def client(index):  # noqa: F811
    with within_this_process(index) as made:
        yield made


def test_json_is_understood_as_the_form_of_the_same_fields(client):
    fields = {"id": 3, "k": 5, "path": ["flower", "china"], "label": "china", "unlike": [4, 7]}
    form = ask(client, **fields)
    answer = client.post("/api/search", json=fields)
    assert answer.json()["neighbours"] == form
    assert len(form) == 5
    boxed = client.post("/api/search", json={"id": 3, "k": 5, "box": [10, 20, 80, 60]})
    assert boxed.json()["neighbours"] == ask(client, id=3, k=5, box="10,20,80,60")
    assert client.post("/api/search", json={"id": 3, "box": None}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"plaice": 3}, 422, "'plaice' is no field; allowed are image, id"),
        ({"image": "aGVsbG8="}, 422, "image: JSON holds no files"),
        ({"id": [1, 2]}, 422, "id: one value"),
        ({"id": True}, 422, "id: a text or a number"),
        ({"id": {"a": 1}}, 422, "id: a text or a number"),
        ({"id": "three"}, 422, "id: "),
        ([3], 422, "no JSON object"),
        ({}, 400, "either an image or the id"),
    ],
)
def test_json_that_is_not_understood_is_refused_by_name(client, body, status, reason):
    answer = client.post("/api/search", json=body)
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True), answer.text


def test_other_bodies_and_unknown_fields_are_refused_by_name(client):
    photo = client.get("/api/original/3").content
    for kind in ("image/jpeg", "application/octet-stream", "text/plain"):
        answer = client.post("/api/search", content=photo, headers={"content-type": kind})
        assert answer.status_code == 415
        assert kind in answer.json()["error"]
        assert "multipart/form-data" in answer.json()["error"]
    for kind in ("text/plain", "application/json"):  # the answer comes, however long the body is
        answer = client.post(
            "/api/search", content=b" " * 3_000_000, headers={"content-type": kind}
        )
        assert answer.status_code == {"text/plain": 415, "application/json": 413}[kind]
    for deep in (b"[" * 100_000, b"{", b"\xff", b'{"k": NaN, "id": 3}'):
        kind = {"content-type": "application/json"}
        answer = client.post("/api/search", content=deep, headers=kind)
        assert 400 <= answer.status_code < 500
        assert answer.json()["error"]
    answer = client.post("/api/search", data={"id": 3, "lable": "china"})
    assert answer.status_code == 422
    assert "'lable' is no field" in answer.json()["error"]


def test_a_filter_that_fits_nothing_is_told_with_near_names(client):
    answer = client.post("/api/search", data={"id": 3, "path": "flowers"}).json()
    assert answer["neighbours"] == []
    assert "Did you mean 'flower'" in answer["hint"]
    assert "'flower'" in client.get("/api/sample", params={"path": "flowers"}).json()["hint"]
    assert len(ask(client, id=3, k=100, path="flower")) == 24
    assert "hint" not in client.get("/api/sample", params={"path": "flower"}).json()


def test_a_renamed_index_is_told_and_searches_go_on(index, tmp_path):  # noqa: F811
    own = tmp_path / "own.index"
    shutil.copytree(index, own)
    with within_this_process(own) as client:
        before = ask(client, id=3, k=3)
        own.rename(tmp_path / "other.index")
        answer = client.get("/api/info")
        assert answer.status_code == 503
        assert "no such file" in answer.json()["error"]
        assert "start the server at its new place" in answer.json()["error"]
        assert ask(client, id=3, k=3) == before
        (tmp_path / "other.index").rename(own)
        assert client.get("/api/info").status_code == 200


def test_a_page_of_another_site_may_not_search_whatever_its_browser_tells(client):
    own = str(client.base_url).rstrip("/")
    host = own.removeprefix("http://")
    foreign = ("http://evil.example", "null", f"http://{host}.evil.example", "http://127.0.0.1:1")
    for headers in (*({"origin": one} for one in foreign), {"sec-fetch-site": "same-site"}):
        answer = client.post("/api/search", data={"id": 3}, headers=headers)
        assert answer.status_code == 403, headers
        assert "other sites" in answer.json()["error"]
    for headers in ({"origin": own}, {"origin": own, "sec-fetch-site": "same-origin"}, {}):
        assert client.post("/api/search", data={"id": 3}, headers=headers).status_code == 200


def test_beyond_this_machine_the_server_answers_to_its_own_names_and_addresses_only():
    everywhere = Hosts.of("0.0.0.0", ["Photos.example."])
    for host in ("192.168.1.5", "127.0.0.1", "localhost", "fe80::1", "photos.example"):
        assert everywhere.allow(host)
    for host in ("evil.example", "", "1.2.3.4.evil.example", "localhost.evil.example"):
        assert not everywhere.allow(host)
    here = Hosts.of("127.0.0.1")
    assert here.allow("localhost")
    assert not here.allow("192.168.1.5")
    assert host_of("LOCALHOST.:80") == "localhost"
    assert host_of("[::1]:8000") == "::1"


def test_the_address_that_is_printed_leads_to_a_server_that_listens_everywhere():
    with listening("0.0.0.0", 0) as listener:
        address = _address(listener, "0.0.0.0")
        url = httpx.URL(address)
        assert url.host != "0.0.0.0"
        assert Hosts.of("0.0.0.0").allow(url.host)


def test_a_61_megapixel_photo_that_can_be_indexed_can_be_searched_for(client):
    assert Limits().pixels == MAX_PIXELS
    assert len(ask(client, png(9504, 6336), k=3)) == 3


def test_too_large_photos_are_refused_with_the_option_that_allows_them(index):  # noqa: F811
    with within_this_process(index, Limits(upload=1 << 16, pixels=10_000)) as client:
        answer = client.post("/api/search", files={"image": ("a.png", png(200, 200))})
        assert answer.status_code == 400
        assert "200 x 200 pixels, where the limit is 10,000" in answer.json()["error"]
        answer_too_many = client.post("/api/search", files={"image": ("a.png", bytes(1 << 18))})
        assert answer_too_many.status_code == 413
        for said in (answer, answer_too_many):
            option = said.json()["error"].partition("--")[2].split(",")[0].split()[0].rstrip(".")
            assert f"--{option}" in [name for one in command.params for name in one.opts]


def test_images_are_decoded_in_turn_as_their_pixels_allow():
    budget = PixelBudget(100, at_once=4)
    running, most, begun = 0, 0, []
    turn = threading.Lock()

    def job(pixels: int) -> None:
        nonlocal running, most
        with budget.taken(pixels):
            with turn:
                running += max(25, min(pixels, 100))
                most = max(most, running)
                begun.append(pixels)
            time.sleep(0.002)
            with turn:
                running -= max(25, min(pixels, 100))

    rng = np.random.default_rng(0)
    sizes = [int(one) for one in rng.choice([1, 30, 60, 1000], 60)]
    threads = [threading.Thread(target=job, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(begun) == sorted(sizes)
    assert 50 < most <= 100


def test_a_photo_of_the_page_may_be_of_any_kind_that_is_extracted(client):
    file = io.BytesIO()
    Image.new("RGB", (80, 60), "red").save(file, "TGA")
    assert len(ask(client, file.getvalue(), k=3)) == 3


def test_the_size_of_an_image_is_told_before_any_of_it_is_decoded():
    head = png(9504, 6336)[:41]  # nothing but the header
    assert size_of(io.BytesIO(head), upright=False) == (9504, 6336)


def explained(client, image=None, status=200, **fields):
    files = None if image is None else {"image": ("query.jpg", image)}
    answer = client.post("/api/explain", data=fields, files=files)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_two_images_are_compared_place_by_place(client):
    found = explained(client, id=3, neighbour=5)
    (score,) = [one["score"] for one in ask(client, id=3, k=47) if one["id"] == 5]
    assert found["exact"]
    assert found["measure"] == "cosine"
    assert found["score"] == pytest.approx(score, abs=1e-5)
    for side in ("query", "image"):
        told = found[side]
        assert told["total"] + told["constant"] == pytest.approx(found["score"], abs=1e-5)
        kind, _, data = told["overlay"].partition(",")
        assert kind == "data:image/png;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (picture.mode, max(picture.size)) == ("RGBA", 128)
        assert Region.parse(told["box"]).percent
    photo = client.get("/api/original/3").content
    sent = explained(client, photo, neighbour=5)
    assert sent["query"]["total"] == pytest.approx(found["query"]["total"], abs=1e-6)
    again = client.post("/api/explain", json={"id": 3, "neighbour": 5}).json()
    assert again["query"] == found["query"]
    boxed = explained(client, id=3, neighbour=5, box="0%,0%,50%,100%")
    assert boxed["query"]["total"] == pytest.approx(boxed["score"], abs=1e-5)
    assert boxed["score"] != found["score"]


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"id": 3}, 422, "neighbour: Field required"),
        ({"neighbour": 3}, 400, "either an image or the id"),
        ({"id": 3, "neighbour": 999}, 400, "There is no image 999"),
        ({"id": 999, "neighbour": 3}, 400, "There is no image 999"),
        ({"id": 3, "neighbour": 4, "k": 5}, 422, "'k' is no field; allowed are image, id, box"),
        ({"id": 3, "neighbour": 4, "box": "1,2"}, 400, "is no box"),
        ({"id": 3, "neighbour": 4, "generation": "old"}, 409, "other ids now"),
    ],
)
def test_comparisons_that_cannot_be_made_are_refused(client, fields, status, reason):
    assert reason in explained(client, status=status, **fields)["error"]
    assert reason in client.post("/api/explain", json=fields).json()["error"]


def test_compared_images_obey_the_limit_of_pixels(index):  # noqa: F811
    with within_this_process(index, Limits(pixels=20_000)) as client:
        photo = io.BytesIO()
        Image.new("RGB", (200, 200)).save(photo, "PNG")
        assert "too large" in explained(client, photo.getvalue(), 400, neighbour=5)["error"]
        assert "too large" in explained(client, status=400, id=3, neighbour=5)["error"]


def test_the_description_of_the_api_has_comparisons(client):
    schema = client.get("/openapi.json").json()
    told = schema["paths"]["/api/explain"]["post"]
    assert "overlay" in told["description"]
    assert "/api/explain" in client.get("/api").text
