"""Weight files that were published, and the digests that their publishers give.

None of these files was at hand as such: names, sizes and digests are as published, and the digests
are not verified here. The values of the authors' thirteen convolutions of 16 layers were, in
another file, and ``vggfeat weights check`` knows them (:mod:`vggfeat.network.figures`). The names
of torchvision's files carry the first eight digits of their SHA-256.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vggfeat.layers import architecture
from vggfeat.weights import builtin, imagenet

_TORCHVISION_TERMS = "BSD-3-Clause"
_AUTHORS_TERMS = "CC BY 4.0"
_TINY_TERMS = "non-commercial research and education"


@dataclass(frozen=True, slots=True)
class Published:
    """A file that somebody published.

    Attributes
    ----------
    file : str
        Its name.
    model : str
        The network.
    publisher : str
        Who, and what else it is called.
    spec : str
        What `--weights` takes for it; ``"PATH"`` where it has to be fetched by hand.
    megabytes : float or None
        In 10^6 bytes; None where it is not known.
    licence : str
        As its publisher says.
    preprocessing : str
        Name of what belongs to it.
    digest : str
        As published: ``"sha256:"`` with the first digits, or ``"md5:"``; empty where none is.
    source : str
        Where the digest is from.
    cache : Path or None
        Where the publisher's program keeps it; None where it keeps it nowhere.
    """

    file: str
    model: str
    publisher: str
    spec: str
    megabytes: float | None
    licence: str
    preprocessing: str
    digest: str = ""
    source: str = ""
    cache: Path | None = None

    @property
    def place(self) -> Path | None:
        """Where the file would lie; None where nobody knows."""
        return self.cache / self.file if self.cache else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, with where the file lies; nothing of it is verified."""
        place = self.place
        return asdict(self) | {
            "cache": str(self.cache) if self.cache else None,
            "path": str(place) if place else None,
            "here": bool(place and place.exists()),
            "verified": False,
        }


def published() -> list[Published]:
    """Return all files that are known, those that `--weights` takes by a name first."""
    return [*_builtin(), *_torchvision(), *_caffe(), *_keras(), *_matconvnet(), *_timm(), *_onnx()]


def matching(sha256: str, md5: str = "") -> Published | None:
    """Return the published file with a digest, or None."""
    for one in published():
        kind, _, digits = one.digest.partition(":")
        given = {"sha256": sha256, "md5": md5}.get(kind, "")
        if digits and given.startswith(digits):
            return one
    return None


def _builtin() -> list[Published]:
    return [
        Published(
            name, model, "vggfeat", "builtin", 5.4, _TINY_TERMS, "torchvision",
            cache=builtin.path_of(model).parent,
        )
        for model, name in builtin.FILES.items()
    ]  # fmt: skip


def _torchvision() -> list[Published]:
    cache, said = imagenet.cache_folder(), "the file's name"
    trained = [
        Published(
            file, model, "torchvision IMAGENET1K_V1", "imagenet", _size(model),
            _TORCHVISION_TERMS, "torchvision", f"sha256:{imagenet.digest_of(file)}", said, cache,
        )
        for model, file in imagenet.FILES.items()
    ]  # fmt: skip
    return trained + [
        Published(
            file, model, "torchvision IMAGENET1K_FEATURES", "imagenet-features", _size(model),
            _AUTHORS_TERMS, "torchvision-features", f"sha256:{imagenet.digest_of(file)}", said,
            cache,
        )
        for model, file in imagenet.FEATURES.items()
    ]  # fmt: skip


def _caffe() -> list[Published]:
    return [
        Published(
            f"VGG_ILSVRC_{depth}_layers.caffemodel", f"vgg{depth}", "the authors", "PATH",
            _size(f"vgg{depth}"), _AUTHORS_TERMS, "caffe",
        )
        for depth in (16, 19)
    ]  # fmt: skip


def _keras() -> list[Published]:
    digests = {
        ("vgg16", True): "64373286793e3c8b2b4e3219cbf3544b",
        ("vgg16", False): "6d6bbae143d832006294945121d1f1fc",
        ("vgg19", True): "cbe5617147190e668d6c5d5026f83318",
        ("vgg19", False): "253f8cb515780f3b799900260a226db6",
    }
    cache = Path("~/.keras/models").expanduser()
    return [
        Published(
            f"{model}_weights_tf_dim_ordering_tf_kernels{'' if top else '_notop'}.h5", model,
            f"Keras applications, {'with' if top else 'without'} top", "PATH",
            _size(model, top), _AUTHORS_TERMS, "caffe", f"md5:{digest}",
            f"Keras's {model}.py", cache,
        )
        for (model, top), digest in digests.items()
    ]  # fmt: skip


def _matconvnet() -> list[Published]:
    return [
        Published(
            "imagenet-vgg-verydeep-16.mat", "vgg16", "MatConvNet", "PATH", None, _AUTHORS_TERMS,
            "caffe-rgb",
        ),
        Published(
            "imagenet-vgg-verydeep-19.mat", "vgg19", "MatConvNet, beta16", "PATH", 535,
            _AUTHORS_TERMS, "caffe-rgb", "md5:8ee3263992981a1d26e73b3ca028a123",
            "programs for style transfer that check it",
        ),
    ]  # fmt: skip


def _timm() -> list[Published]:
    return [
        Published(
            "model.safetensors", model, f"timm {model}.tv_in1k", "PATH", _size(model),
            _TORCHVISION_TERMS, "torchvision",
        )
        for model in imagenet.FILES
    ]  # fmt: skip


def _onnx() -> list[Published]:
    return [
        Published(
            "vgg16-7.onnx", "vgg16", "the ONNX model zoo", "PATH", 553, "Apache 2.0",
            "torchvision",
            "sha256:f20805a3ecccaa88647bbab4ad011ff2412a9838485ea844de0fcbce349820b9",
            "the zoo's repository",
        )
    ]  # fmt: skip


def _size(model: str, top: bool = True) -> float:
    """Return the size of a network's weights in float32; a file's is that and little more."""
    network = architecture(model)
    layers = network.layers if top else network.upto(["pool5"])
    return round(4 * sum(layer.parameters for layer in layers) / 1e6)
