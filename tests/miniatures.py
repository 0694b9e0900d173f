"""Datasets in their official layouts, small, of real JPEGs, XML files and image sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from conftest import draw

from vggfeat.datasets.voc import CLASSES
from vggfeat.datasets.voc_action import ACTIONS


def photo(file: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draw(*size, seed=seed).save(file, "JPEG", quality=95)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def voc(
    folder: Path,
    sets: Mapping[str, Mapping[str, Mapping[str, int]]],
    parts: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Make a VOC20xx folder; `sets` is by set, image and class, 1 and 0 being given, -1 not."""
    for name, images in sets.items():
        for kind in CLASSES:
            lines = [f"{image} {labels.get(kind, -1):2d}\n" for image, labels in images.items()]
            write(folder / f"ImageSets/Main/{kind}_{name}.txt", "".join(lines))
        for seed, image in enumerate(images):
            photo(folder / f"JPEGImages/{image}.jpg", seed)
    for name, listed in (parts or {}).items():
        write(folder / f"ImageSets/Main/{name}.txt", "".join(f"{image}\n" for image in listed))
    return folder


def voc2007(above: Path) -> Path:
    return voc(
        above / "VOCdevkit" / "VOC2007",
        {
            "trainval": {
                "000012": {"car": 1},
                "000005": {"chair": 1, "person": 0},
                "000007": {"car": 1, "dog": 1},
            },
            "test": {"000001": {"dog": 1, "person": 1}, "000002": {"train": 0}},
        },
        {"train": ["000012", "000007"], "val": ["000005"]},
    )


def voc2012(above: Path) -> Path:
    return voc(
        above / "VOCdevkit" / "VOC2012",
        {
            "train": {"2008_000008": {"horse": 1, "person": 1}, "2011_000015": {"boat": 1}},
            "val": {"2008_000002": {"tvmonitor": 1, "bus": 0}},
        },
    )


Thing = tuple[str, tuple[str, ...], str]
"""Name, actions, and xmin ymin xmax ymax."""

PEOPLE: dict[str, dict[str, list[Thing]]] = {
    "train": {
        "2010_000003": [
            ("horse", (), "1 1 40 30"),
            ("person", ("ridinghorse",), "11 6 20 25"),
            ("person", ("other",), "31 1 40 30"),
        ],
    },
    "val": {
        "2011_000001": [("person", ("phoning", "walking"), "1.4 2.6 7.5 30")],
        "2010_000001": [("person", (), "1 1 1 1")],
    },
}


def annotation(things: Sequence[Thing]) -> str:
    parts = []
    for name, actions, box in things:
        edges = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
        bounds = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
        acts = "".join(f"<{a}>{int(a in actions)}</{a}>" for a in (*ACTIONS, "other"))
        told = f"<actions>{acts}</actions>" if name == "person" else ""
        parts.append(f"<object><name>{name}</name>{told}<bndbox>{bounds}</bndbox></object>")
    return f"<annotation><folder>VOC2012</folder>{''.join(parts)}</annotation>"


def voc2012_action(above: Path) -> Path:
    folder = above / "VOCdevkit" / "VOC2012"
    for name, images in PEOPLE.items():
        for action in ACTIONS:
            lines = [
                f"{image}  {number} {1 if action in actions else -1:2d}\n"
                for image, things in images.items()
                for number, (kind, actions, _) in enumerate(things, 1)
                if kind == "person"
            ]
            write(folder / f"ImageSets/Action/{action}_{name}.txt", "".join(lines))
        for image, things in images.items():
            write(folder / f"Annotations/{image}.xml", annotation(things))
            photo(folder / f"JPEGImages/{image}.jpg", int(image[-1]))
    return folder


def caltech101(above: Path, sizes: Mapping[str, int] | None = None) -> Path:
    folder = above / "caltech101" / "101_ObjectCategories"
    sizes = sizes or {"BACKGROUND_Google": 33, "Faces": 31, "Faces_easy": 85, "accordion": 32}
    return classes_of(folder, {name: ("image_{:04d}.jpg", size) for name, size in sizes.items()})


def caltech256(above: Path) -> Path:
    folder = above / "256_ObjectCategories"
    names = {"001.ak47": 61, "056.dog": 63, "257.clutter": 64}
    made = {name: (name[:3] + "_{:04d}.jpg", size) for name, size in names.items()}
    classes_of(folder, made)
    # The official archive holds these as well.
    photo(folder / "056.dog/greg/vision309/056_0001.jpg")
    write(folder / "257.clutter/RENAME2", "#!/bin/sh\n")
    return folder


def classes_of(folder: Path, classes: Mapping[str, tuple[str, int]]) -> Path:
    folder.mkdir(parents=True)
    photo(folder.parent / "one.jpg")
    data = (folder.parent / "one.jpg").read_bytes()
    (folder.parent / "one.jpg").unlink()
    for name, (pattern, size) in classes.items():
        (folder / name).mkdir()
        for number in range(1, size + 1):
            (folder / name / pattern.format(number)).write_bytes(data)
    return folder


def own(above: Path) -> Path:
    return classes_of(above / "own", {"cat": ("{}.png", 5), "dog": ("{}.jpg", 9)})


MAKERS: dict[str, Callable[[Path], Path]] = {
    "voc2007": voc2007,
    "voc2012": voc2012,
    "voc2012-action": voc2012_action,
    "caltech101": caltech101,
    "caltech256": caltech256,
    "folder": own,
}
