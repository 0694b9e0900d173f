"""What examples of the documentation take as given, small; docs/index.md says what it is."""

from __future__ import annotations

import shutil
import zipfile
from contextlib import chdir
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import weight_writers
from commands import cli
from PIL import Image
from safetensors.torch import load_file
from scipy.io import savemat

from vggfeat.demo.pictures import write_places
from vggfeat.weights import builtin

CLASSES = {"beach": "china 1-2", "cat": "china 2-2", "dog": "flower 2-2"}
EACH = 7  # photos of a class
LAYERS = "conv3_2,pool3,conv5_3,relu5_3:gem,pool5,fc6,relu7"
TINY = ("--model", "vgg16-tiny")


def make_given_files(folder: Path) -> None:
    """Make photos, and a store, an index, a probe and fine-tuned weights of them."""
    make_photos(folder)
    make_sources(folder)
    make_weights(folder)
    commands = [
        ("extract", "photos", "photos.h5", *TINY, "--layers", LAYERS),
        ("extract", "photos", "random.h5", *TINY, "--layers", LAYERS, "--weights", "random"),
        ("extract", "shown.txt", "shared.h5", *TINY, "--layers", "pool1,pool5"),
        ("extract", "nsd_stimuli.hdf5#imgBrick", "nsd.h5", *TINY, "--layers", "pool5,relu7"),
        ("extract", "photos", "photos.store", *TINY, "--layers", "relu7"),
        ("extract", "train", "train.h5", *TINY, "--layers", "relu7"),
        ("extract", "test", "test.h5", *TINY, "--layers", "relu7"),
        ("index", "build", "photos.h5", "photos.index", "--layer", "pool5"),
        ("index", "build", "train.h5", "2025.index", "--layer", "relu7"),
        ("index", "build", "test.h5", "2026.index", "--layer", "relu7"),
        ("probe", "photos.h5", "--layer", "pool5", "--save", "photos.probe"),
        ("finetune", "photos", "tuned.safetensors", *TINY, "--from", "head", "--epochs", "1",
         "--augment", "0"),
    ]  # fmt: skip
    with chdir(folder):
        for words in commands:
            done = cli(*words)
            assert done.returncode == 0, done.stderr
    for name, copy in (("photos", "trained"), ("photos", "landmarks"), ("train", "monday"),
                       ("test", "tuesday")):  # fmt: skip
        shutil.copyfile(folder / f"{name}.h5", folder / f"{copy}.h5")


def make_photos(folder: Path) -> None:
    """Make photos/ of four classes, the same as train/ and test/, new/, and single photos."""
    write_places(folder / "all")
    for number, (name, place) in enumerate(CLASSES.items()):
        for at in range(EACH):
            photo = folder / "all" / place / f"{at}.jpg"
            part = "train" if at < EACH - 2 else "test"
            for kept in (folder / "photos" / name, folder / part / name):
                kept.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(photo, kept / f"{at + 1:02d}.jpg")
        (folder / "new").mkdir(exist_ok=True)
        (folder / "all" / place / "9.jpg").rename(folder / "new" / f"{number}.jpg")
    shutil.rmtree(folder / "all")
    for number, name in enumerate(("a", "b", "c", "cat", "dog", "photo", "query")):
        shutil.copyfile(folder / "new" / f"{number % len(CLASSES)}.jpg", folder / f"{name}.jpg")
    with Image.open(folder / "photos" / "cat" / "01.jpg") as image:
        smaller = image.resize((image.width * 3 // 4, image.height * 3 // 4))
    smaller.save(folder / "photos" / "cat" / "01-small.jpg", quality=85)


def make_sources(folder: Path) -> None:
    """Make archives, arrays and tables of the photos, and what was measured with them."""
    files = sorted((folder / "photos").rglob("*.jpg"))
    paths = [file.relative_to(folder / "photos").as_posix() for file in files]
    rng = np.random.default_rng(0)
    for name, column in (("ages", "age"), ("ratings", "rating")):
        values = rng.integers(1, 90, len(paths))
        rows = "".join(f"{path},{value}\n" for path, value in zip(paths, values, strict=True))
        (folder / f"{name}.csv").write_text(f"path,{column}\n{rows}")
    labelled = [f"photos/{path},{path.partition('/')[0]}\n" for path in paths[::6]]
    (folder / "labelled.csv").write_text("path,label\n" + "".join(labelled))
    for number in range(3):
        with zipfile.ZipFile(folder / f"part-{number + 1}.zip", "w") as archive:
            for file, path in zip(files[number::8], paths[number::8], strict=True):
                archive.write(file, path)
    _make_parquet(folder, files)
    _make_stimuli(folder, files, rng)


def _make_parquet(folder: Path, files: list[Path]) -> None:
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files[::3]]
    names = [file.parent.name for file in files[::3]]
    for target in ("cifar10/train.parquet", "data/train-0000{}-of-00004.parquet"):
        for number in range(4 if "{}" in target else 1):
            at = slice(number, None, 4) if "{}" in target else slice(None)
            file = folder / target.format(number)
            file.parent.mkdir(exist_ok=True)
            pq.write_table(pa.table({"image": images[at], "label": names[at]}), file)
    pq.write_table(pa.table({"photo": images, "breed": names}), folder / "pets.parquet")


def _make_stimuli(folder: Path, files: list[Path], rng: np.random.Generator) -> None:
    pixels = np.stack([np.asarray(Image.open(file).resize((64, 64))) for file in files])
    np.save(folder / "stimuli.npy", pixels)
    savemat(folder / "stimuli.mat", {"stimuli": pixels.transpose(1, 2, 3, 0)})
    with h5py.File(folder / "nsd_stimuli.hdf5", "w") as file:
        file["imgBrick"] = pixels
    shown = np.repeat(np.arange(len(files)), 2)
    with h5py.File(folder / "betas.h5", "w") as file:
        file["betas"] = rng.normal(size=(len(shown), 30))
    trials = "".join(f"{number}\n" for number in shown)
    (folder / "trials.csv").write_text(f"nsd_id\n{trials}")
    (folder / "shown.txt").write_text("".join(f"{file.relative_to(folder)}\n" for file in files))
    savemat(folder / "v4.mat", {"rates": rng.normal(size=(len(files), 20))})
    savemat(folder / "subjects.mat", {"rdms": _rdms(rng, len(files))})


def _rdms(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Return RDMs of three subjects as MATLAB's users stack them, (n, n, 3)."""
    points = rng.normal(size=(count, 4, 3))
    return ((points[:, None] - points) ** 2).sum(axis=2)


def make_weights(folder: Path) -> None:
    """Make files of weights as others write them, of the small network."""
    kept = load_file(builtin.path_of("vgg16-tiny"))
    order = sorted(kept, key=lambda name: (name[0] == "c", int(name.split(".")[1])))
    state = {name: kept[name] for name in order}  # features before classifier
    torch.save(state, folder / "my-vgg16.pth")
    weight_writers.caffe_v2(state, folder / "VGG_ILSVRC_16_layers.caffemodel")
