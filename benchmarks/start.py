"""From the start of a command to its answer, beside the script that people write.

Three jobs, with VGG-16 and a file of torchvision's weights (random ones, made here, 528 MB):

extract   relu7 of ten photos of 500 x 375 into a store; the script: into a .npy file
search    one photo in an index of 200, by conv5_3; the script: in a FAISS index
predict   the class of one photo by a probe on relu7; the script: by scikit-learn's LinearSVC

Both take turns, each in a process of its own, and the seconds of the whole process are printed:
minimum / median. With --cold the system's file cache is emptied before each (needs root)::

    python benchmarks/start.py FOLDER [--rounds 5] [--cold]

Then vggfeat's own stages stand in a table, of one more run that is watched: imports, the engine and
its weights, the network's runs, and what is left.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from vggfeat.cli.output import table

PHOTOS, SEARCHED = 10, 200

SCRIPT = """
import sys, numpy as np, torch, torchvision
from pathlib import Path
from PIL import Image
from torchvision import transforms
model = torchvision.models.vgg16(weights=None)
model.load_state_dict(torch.load("weights.pth"))
model.eval()
transform = transforms.Compose([
    transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
])
def features(layer, paths):
    found = []
    part = model.get_submodule(layer)
    hook = part.register_forward_hook(lambda m, i, out: found.append(out.detach().clone()))
    with torch.no_grad():
        for path in paths:
            model(transform(Image.open(path).convert("RGB"))[None])
    hook.remove()
    out = torch.cat(found)
    return (out.mean((2, 3)) if out.ndim == 4 else out).numpy()
"""

JOBS = {
    "extract": 'np.save("plain.npy", features("classifier.4", sorted(Path("ten").iterdir())))',
    "search": """
import faiss
index = faiss.read_index("plain.faiss")
names = sorted(path.name for path in Path("many").rglob("*.jpg"))
query = features("features.28", ["query.jpg"])
scores, found = index.search(query / np.linalg.norm(query), 10)
for score, at in zip(scores[0], found[0]): print(score, names[at])
""",
    "predict": """
import joblib
print(joblib.load("plain.joblib").predict(features("classifier.4", ["query.jpg"])))
""",
}

COMMANDS = {
    "extract": "extract ten ten.h5 --weights weights.pth --layers relu7 --overwrite",
    "search": "search photos.index query.jpg",
    "predict": "predict photos.probe query.jpg",
}

WATCHED = """
import builtins, json, sys, time
begun, seconds = time.perf_counter(), {}
def within(stage, function):
    def timed(*given, **named):
        start = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            seconds[stage] = seconds.get(stage, 0) + time.perf_counter() - start
    return timed
packages = {"torch": "import torch", "faiss": "import faiss", "sklearn": "import scikit-learn"}
real, inside = builtins.__import__, []
def watched(name, *given, **named):
    stage = packages.get(name.partition(".")[0])
    if stage is None or stage in seconds or inside:
        return real(name, *given, **named)
    inside.append(stage)
    try:
        return within(stage, real)(name, *given, **named)
    finally:
        inside.pop()
builtins.__import__ = watched
import vggfeat.cli
seconds["import vggfeat"] = time.perf_counter() - begun
import torch
from vggfeat.network import Network
from vggfeat.network.engines import Engine
Network.load = within("weights, network", Network.load)
Engine.hint_workload = within("engine", Engine.hint_workload)
Network.run = within("runs", Network.run)
try:
    vggfeat.cli.run(sys.argv[1:])
finally:
    seconds["the rest"] = time.perf_counter() - begun - sum(seconds.values())
    with open("stages.json", "w") as file: json.dump(seconds, file)
"""


def prepare(folder: Path) -> None:
    """Make weights, photos, an index and probes, where they are not there yet."""
    import faiss
    import joblib
    import torch
    import torchvision
    from sklearn.svm import LinearSVC

    if (folder / "plain.joblib").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.vgg16(weights=None).state_dict(), folder / "weights.pth")
    rng = np.random.default_rng(0)
    for number in range(SEARCHED):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        photo = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        places = [folder / "many" / "ab"[number % 2] / f"{number:03d}.jpg"]
        places += [folder / "ten" / f"{number}.jpg"] if number < PHOTOS else []
        places += [folder / "query.jpg"] if number == 0 else []
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            photo.save(place, quality=90)
    for words in (
        "extract many many.h5 --weights weights.pth --layers conv5_3,relu7",
        "index build many.h5 photos.index --layer conv5_3",
        "probe many.h5 --layer relu7 --save photos.probe -C 1",
    ):
        subprocess.run([sys.executable, "-m", "vggfeat", *words.split()], cwd=folder, check=True)
    from vggfeat import FeatureStore

    with FeatureStore(folder / "many.h5") as store:
        maps, vectors = store.matrix("conv5_3")[1], store.matrix("relu7")[1]
    index = faiss.IndexFlatIP(maps.shape[1])
    index.add(maps / np.linalg.norm(maps, axis=1, keepdims=True))
    faiss.write_index(index, str(folder / "plain.faiss"))
    classes = np.arange(SEARCHED) >= SEARCHED // 2
    joblib.dump(LinearSVC().fit(vectors, classes), folder / "plain.joblib")


def seconds(folder: Path, words: list[str], cold: bool) -> float:
    """Run a process; return the seconds from its start to its end."""
    if cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, check=True, capture_output=True, env=kept)
    return time.perf_counter() - start


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--rounds", default=5, show_default=True)
@click.option("--cold", is_flag=True, help="Empty the system's file cache before each.")
def main(folder: Path, rounds: int, cold: bool) -> None:
    """Compare commands with scripts, in turns."""
    prepare(folder)
    rows, stages = [], {}
    for job, command in COMMANDS.items():
        contestants = {
            "vggfeat": ["-m", "vggfeat", *command.split()],
            "script": ["-c", SCRIPT + JOBS[job]],
        }
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(rounds + (not cold)):
            for name, words in contestants.items():
                one = seconds(folder, words, cold)
                if number or cold:  # the first round warms the cache
                    taken[name].append(one)
        middle = {name: statistics.median(each) for name, each in taken.items()}
        shown = [f"{min(taken[name]):.2f} / {middle[name]:.2f}" for name in contestants]
        ratios = [a / b for a, b in zip(taken["script"], taken["vggfeat"], strict=True)]
        rows.append([job, *shown, f"{statistics.median(ratios):.2f}"])
        seconds(folder, ["-c", WATCHED, *command.split()], cold)
        stages[job] = json.loads((folder / "stages.json").read_text())
    click.echo(table(rows, ["job", "vggfeat, s", "script, s", "times faster"]))
    names = dict.fromkeys(name for own in stages.values() for name in own)
    click.echo("\n" + table(
        [[name, *(f"{own.get(name, 0):.2f}" for own in stages.values())] for name in names],
        ["stage, s", *stages],
    ))  # fmt: skip


if __name__ == "__main__":
    main()
