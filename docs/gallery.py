"""The pictures of docs/gallery.md: pages, reports and plots, each in light and in dark.

python docs/gallery.py [OUT]

Takes Chromium. What is shown is made by the program's own commands, with the weights and pictures
that come with the package and with scikit-learn.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image

from vggfeat import FeatureStore, SimilarityIndex
from vggfeat.demo.pictures import write_digits, write_places
from vggfeat.evaluation import compare
from vggfeat.queries import ImageSearch
from vggfeat.web.app import create_app
from vggfeat.web.limits import Limits
from vggfeat.web.live import LiveService
from vggfeat.web.pictures import Pictures
from vggfeat.web.service import SearchService
from vggfeat.web.serving import listening, server_of

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import PROGRAM, Browser, browsing  # noqa: E402
from commands import cli  # noqa: E402

TONES = {"light": False, "dark": True}
WIDTH, HEIGHT = 1000, 640
LARGEST = 60_000
"""Most bytes of one picture."""

NAMES = (
    "serve", "search", "probe", "explain", "sweep", "map", "maps", "units", "rdms",
)  # fmt: skip
"""What there are pictures of."""


def main(out: Path) -> None:
    """Make all pictures."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        with contextlib.chdir(folder), browsing(folder / "chromium") as browser:
            photograph_server(browser, out)
            photograph_reports(browser, out)
            draw_plots(out)


def run(*words: object) -> None:
    """Run a command of the program."""
    done = cli(*words)
    if done.returncode:
        sys.exit(done.stderr)


def prepare(folder: Path) -> None:
    """Make stores, an index and a probe of the pictures that are there anyway."""
    write_places(folder / "photos")
    for place in sorted((folder / "photos").iterdir()):
        if place.name[-1] in "14" or "3-" in place.name:  # at the edges; the others are enough
            shutil.rmtree(place)
    write_digits(folder / "digits", folder / "new", 100)
    with contextlib.chdir(folder):
        layers = "pool2,pool3,pool4,pool5,relu6,relu7"
        for name in ("photos", "digits"):
            run("extract", name, f"{name}.h5", "--model", "vgg16-tiny", "--layers", layers)
        run("index", "build", "photos.h5", "photos.index", "--layer", "pool5")
        run("probe", "digits.h5", "--layer", "pool4", "--save", "digits.probe",
            "--html", "probe.html")  # fmt: skip
        query = "photos/flower 2-2/3.jpg"
        run("search", "photos.index", query, "-k", 12, "--html", "search.html")
        some = sorted(Path("new").iterdir())[2:5]
        run("explain", "digits.probe", *some, "--html", "explain.html")


def photograph_server(browser: Browser, out: Path) -> None:
    """Take a picture of the page that `vggfeat serve` shows."""
    settled = "!!document.querySelector('#results li') && !document.querySelector('#results.busy')"
    [query] = SimilarityIndex.open("photos.index").ids_of(["flower 2-2/3.jpg"])
    with serving("photos.index") as address:
        for tone, dark in TONES.items():
            browser.size(WIDTH, HEIGHT, dark)
            browser.go(f"{address}?id={query}&k=18")
            browser.wait(settled)
            save(out, "serve", tone, shot(browser))


@contextlib.contextmanager
def serving(index: str) -> Iterator[str]:
    """Serve an index from a thread, where the network is loaded already; give the address."""

    def search(opened: SimilarityIndex) -> ImageSearch:
        return ImageSearch(opened, device="cpu")

    def service(opened: SimilarityIndex) -> SearchService:
        return SearchService(search(opened), Pictures(opened), Limits())

    server = server_of(create_app(LiveService(index, service, search)))
    with listening("127.0.0.1", 0) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


def photograph_reports(browser: Browser, out: Path) -> None:
    """Take pictures of the reports that commands write with --html."""
    with files() as address:
        beginning = {"search": "main", "probe": "section", "explain": "section + section"}
        for name, begin in beginning.items():
            for tone, dark in TONES.items():
                browser.size(WIDTH, HEIGHT, dark)
                browser.go(f"{address}/{name}.html")
                browser.run(f"document.querySelector({begin!r}).scrollIntoView()")
                save(out, name, tone, shot(browser))


@contextlib.contextmanager
def files() -> Iterator[str]:
    """Serve this folder to the browser."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def shot(browser: Browser) -> Image.Image:
    """Return what the window shows, once all pictures on it are there."""
    browser.wait("[...document.images].every((one) => one.loading === 'lazy' || one.complete)")
    time.sleep(0.2)  # what fades in
    path = Path("shot.png").absolute()
    browser.screenshot(path)
    with Image.open(path) as image:
        return image.convert("RGB")


def draw_plots(out: Path) -> None:
    """Make the pictures that commands write."""
    photo = "photos/china 2-2/2.jpg"
    commands: dict[str, list[Any]] = {
        "map": ["plot", "photos.h5", "--layer", "pool5", "--size", "1600x1000"],
        "maps": ["plot", "--image", photo, "--layer", "conv2_2", "--model", "vgg16-tiny",
                 "--channels", 12],
        "units": ["plot", "photos.h5", "--layer", "pool4", "--units", 5],
        "rdms": ["rdm", "photos.h5", "rdms.h5", "--layers", "pool2,relu7"],
    }  # fmt: skip
    for name, words in commands.items():
        for tone, dark in TONES.items():
            picture = f"{name}.{tone}.png"
            where = ["--picture", picture, "--overwrite"] if name == "rdms" else [picture]
            run(*words, *where, *(["--dark"] if dark else []))
            with Image.open(picture) as image:
                save(out, name, tone, image.convert("RGB"))
    with FeatureStore("photos.h5") as store:
        compared = compare([store])
    for tone, dark in TONES.items():
        png, _ = compared.figure(dark=dark)._repr_png_()  # type: ignore[attr-defined]
        with Image.open(io.BytesIO(png)) as image:
            save(out, "sweep", tone, image.convert("RGB"))


def save(out: Path, name: str, tone: str, image: Image.Image) -> None:
    """Write a picture as WebP, no wider than the page and as good as its bytes allow."""
    image.thumbnail((1200, 1200))
    for quality in range(82, 20, -8):
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality, method=4)
        if file.tell() <= LARGEST:
            break
    (out / f"{name}.{tone}.webp").write_bytes(file.getvalue())


if __name__ == "__main__":
    if PROGRAM is None:
        sys.exit("The gallery takes Chromium; on Debian: apt install chromium")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "gallery")
