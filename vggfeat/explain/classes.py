"""Where in images is what speaks for a class."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vggfeat.errors import ImageError
from vggfeat.explain.maps import AUTO, EXACT, Method
from vggfeat.explain.subjects import Subject, subject_of
from vggfeat.extract import Failure
from vggfeat.images import decode
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from PIL import Image

    from vggfeat.analysis import HeatMap
    from vggfeat.probe import SavedProbe, SavedRidge
    from vggfeat.sources import Entry, Source


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why an image has its score of a class.

    Attributes
    ----------
    image : str
        Its path, or its place in the sequence.
    name : str
        Of the class, or the number that is predicted.
    score : float
        What is explained, see :attr:`vggfeat.explain.subjects.Subject.what`.
    map : HeatMap
        What each place of the image adds to it.
    constant : float
        What is of no place, a probe's intercept: with it an exact map sums to the score. NaN for
        maps of gradients, which sum to nothing.
    method, layer : str
        How the map was made, and whose positions it has.
    named : bool
        Whether the image was said to show the class.
    probability : float or None
        Of the class, where there are probabilities.
    """

    image: str
    name: str
    score: float
    map: HeatMap
    constant: float
    method: str
    layer: str
    named: bool
    probability: float | None = None

    @property
    def exact(self) -> bool:
        """Whether the map and the constant sum to the score."""
        return self.method == EXACT

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; of the map its sums, peak and box."""
        return {
            "image": self.image,
            "class": self.name,
            "named": self.named,
            "score": self.score,
            "probability": self.probability,
            "method": self.method,
            "layer": self.layer,
            "constant": None if math.isnan(self.constant) else self.constant,
            "map": self.map.to_json(),
        }


def explain(
    subject: SavedProbe | SavedRidge | str | os.PathLike[str] | Subject | None,
    images: Sequence[Any],
    classes: str | Sequence[str] = (),
    *,
    method: str = AUTO,
    at: str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Iterator[Explanation | Failure[str]]:
    """Map classes onto images: what each place of an image adds to a class's score.

    Parameters
    ----------
    subject : SavedProbe, SavedRidge, path, str or Subject, optional
        A probe, or its file, or fine-tuned weights; or others, whose network's own classes are
        explained: a file, or
        another text that :class:`vggfeat.FeatureExtractor` takes for weights; by default the
        model's usual ones.
    images : sequence
        Paths, Pillow images, uint8 arrays or tensors.
    classes : str or sequence of str
        Names or numbers; by default the class, or classes, that each image is said to show.
    method : str
        ``"exact"`` divides the score among the positions of the pooled layer; ``"gradcam"`` and
        ``"layercam"`` go by gradients; ``"auto"`` is exact for features of layers with a map,
        else Grad-CAM.
    at : str, optional
        Of gradients: the layer whose positions are mapped; by default the last ReLU with a map
        that is not after the feature's layer.
    progress : callable
        Told of images.
    **options
        `weights` (of a probe: where they are now), `device`, `precision`, `engine`; with weights
        also `model`, `preprocessing`, `view`, `scales` and `flip`. See
        :class:`vggfeat.FeatureExtractor`.

    Yields
    ------
    Explanation or Failure
        Image by image, class by class.

    Raises
    ------
    ProbeError
        The probe cannot be read, or has no such class.
    StoreMismatchError
        The weights are others than those of the probe's training images.
    LayerError
        The method, or `at`, is unknown or not for this layer.
    WeightsError, DeviceError
        Weights or device are not there.

    Examples
    --------
    >>> (one,) = explain("photos.probe", ["cat.jpg"], "cat")     # doctest: +SKIP
    >>> one.map.total + one.constant - one.score                 # doctest: +SKIP
    1.1e-16
    """
    judge = subject if isinstance(subject, Subject) else subject_of(subject, options)
    chosen = Method.chosen(judge.extractor, judge.column, method, at)
    numbers = judge.numbers([classes] if isinstance(classes, str) else classes)
    judge.extractor.hint_workload(len(images))
    for position, image in enumerate(images):
        path = isinstance(image, str | os.PathLike)
        name = os.fspath(image) if path else f"image {position}"
        yield from _explained(judge, chosen, numbers, name, partial(_itself, image))
        progress("explaining", 1, len(images))


def explain_source(
    subject: SavedProbe | SavedRidge | str | os.PathLike[str] | Subject | None,
    source: Source,
    *,
    most: int | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Iterator[Explanation | Failure[str]]:
    """Explain the classes of a source's images, which are called as the source calls them.

    Parameters
    ----------
    subject : SavedProbe, SavedRidge, path, str or Subject, optional
    source : Source
        From :func:`vggfeat.sources.open_source`.
    most : int, optional
        Explain so many images, the first ones.
    progress, **options :
        See :func:`explain`, as for what is yielded and raised.
    """
    judge = subject if isinstance(subject, Subject) else subject_of(subject, options)
    chosen = Method.chosen(judge.extractor, judge.column)
    entries = source.entries[:most]
    judge.extractor.hint_workload(len(entries))
    reading = judge.extractor.reading
    for entry in entries:

        def image(entry: Entry = entry) -> Image.Image:
            with source.open(entry) as file:
                return decode(file, **reading)

        yield from _explained(judge, chosen, [], entry.path, image)
        progress("explaining", 1, len(entries))


def _itself(image: Any) -> Any:
    return image


def _explained(
    judge: Subject, method: Method, numbers: Sequence[int], name: str, image: Callable[[], Any]
) -> Iterator[Explanation | Failure[str]]:
    try:
        seen = method.seen(image())
    except ImageError as error:
        yield Failure(name, str(error))
        return
    answer = judge.answer(seen.feature)
    likely = judge.probabilities(seen.feature)
    for one in numbers or answer:
        score = judge.score(one)
        found, constant = seen.map(score)
        yield Explanation(
            name, judge.names[one], score.of(seen.feature), found, constant, method.name,
            method.at, one in answer, None if likely is None else float(likely[one]),
        )  # fmt: skip
