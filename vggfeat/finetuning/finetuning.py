"""From a source of images to fine-tuned weights: linear probe, maps, training, score, file."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.errors import TrainingError
from vggfeat.finetuning.caching import MapCache, folder_of, size_text
from vggfeat.finetuning.checkpoint import ENDING, Checkpoint, listed
from vggfeat.finetuning.data import Data, data_of
from vggfeat.finetuning.jobs import Job, Size
from vggfeat.finetuning.recipe import HEAD, Recipe
from vggfeat.locking import WriterLock
from vggfeat.probe.scoring import evaluate
from vggfeat.progress import Progress, progress_bar, silent
from vggfeat.provenance import now, versions
from vggfeat.sources import Source, open_sources
from vggfeat.store import FeatureStore
from vggfeat.weights.trained_head import TrainedHead, trained_head

if TYPE_CHECKING:
    from vggfeat.finetuning.feeding import Feed
    from vggfeat.finetuning.results import FinetuneResult
    from vggfeat.finetuning.tasks import Start, Task
    from vggfeat.finetuning.training import Run

_log = logging.getLogger(__name__)


def finetune(
    source: str | os.PathLike[str] | Source | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    model: str = "vgg16",
    weights: str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    labels: str | os.PathLike[str] = "auto",
    split: str | Mapping[str, str | os.PathLike[str]] = "auto",
    group_by: str | None = None,
    groups: str | os.PathLike[str] | None = None,
    test_size: float | None = None,
    train_per_class: int | None = None,
    targets: str | os.PathLike[str] | None = None,
    numbers: bool = False,
    columns: Sequence[str] = (),
    cache: str | os.PathLike[str] | bool | None = None,
    disk: int | None = None,
    new_classes: bool = False,
    overwrite: bool = False,
    checkpoint_seconds: float = 60.0,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> FinetuneResult:
    """Train the last layers of a network on one's own images, beginning with a linear probe.

    First a linear probe is trained on the frozen features; it is the head's start. Then the layers
    from :attr:`Recipe.first` on and the head are trained together (LP-FT: Kumar et al., ICLR 2022).
    What lies before is run once for each view and kept on disk. At the end the test images are
    scored, once, beside the linear probe.

    A run that was stopped, in whatever way, goes on where it was when it is called again with the
    same arguments, and gives the same weights; on a CPU to the last bit, if torch has as many
    threads.

    Parameters
    ----------
    source : path, Source or sequence of paths
        As for :meth:`FeatureExtractor.extract`.
    out : path
        The file to write, which ends in ``.safetensors``.
    model, weights : str, path
        The network, and where it starts.
    recipe : Recipe, optional
        How it is trained.
    labels, split, group_by, groups :
        As for :meth:`FeatureExtractor.extract`.
    test_size, train_per_class :
        As for :func:`vggfeat.probe.evaluate`.
    targets, numbers, columns :
        See :func:`~vggfeat.finetuning.data.data_of`: numbers instead of classes.
    cache : path or bool, optional
        Folder for maps and checkpoints, which stays; by default OUT.work, which is removed at the
        end. False keeps no maps: images are run through the frozen layers each time.
    disk : int, optional
        Bytes that maps may take; half of what is free by default.
    new_classes : bool
        Allow weights that were fine-tuned to other classes before.
    overwrite : bool
        Replace `out`, and begin anew where a run was stopped.
    checkpoint_seconds : float
        Least time between two checkpoints within an epoch.
    progress : bool or Progress, optional
        As for :meth:`FeatureExtractor.extract`.
    **settings
        `preprocessing`, `device`, `engine`, `batch_size`, `workers`, `max_pixels`, `truncated` and
        `value_range` of :class:`FeatureExtractor`, for the frozen layers.

    Returns
    -------
    FinetuneResult

    Raises
    ------
    TrainingError
        `out` exists, a parameter is out of its range, the run that is to be gone on with is of
        other classes, images or settings, or the loss is no number any more.
    StoreError
        The maps would take more disk than they may.
    SourceError, ProbeError, WeightsError, LayerError, DeviceError
        As extraction and probes raise them.
    """
    target = _target(out, overwrite)
    recipe = recipe or Recipe()
    images = (
        source
        if isinstance(source, Source)
        else open_sources([source] if isinstance(source, str | os.PathLike) else source)
    )
    asked = {"labels": labels, "split": split, "group_by": group_by, "groups": groups}
    dividing: dict[str, Any] = {"test_size": test_size, "train_per_class": train_per_class}
    size = Size.of(images, asked, dividing, numbers=targets is not None or numbers)
    base = {"model": model, "weights": weights, "dtype": "float16", **settings}
    place = folder_of(target, cache if not isinstance(cache, bool) else None)
    job = Job.of(base, recipe, size, place, cached=cache is not False)
    place.mkdir(parents=True, exist_ok=True)
    clock = _Clock()
    checkpoint = place / f"{target.stem}{ENDING}"
    with WriterLock(checkpoint), ExitStack() as stack:
        maps = MapCache(place, job.extractor)
        _fill_plain(maps, job, size, disk, progress, clock, **asked, source=images)
        table = stack.enter_context(FeatureStore(maps.plain))
        kinds: dict[str, Any] = {"targets": targets, "numbers": numbers, "columns": columns}
        data = data_of(table, job.column, job.recipe, **dividing, **kinds)
        _check_classes(job, data, new_classes)
        task = data.task(job.recipe)
        feed = _feed(maps, job, data, table, images, progress, clock, stack)
        start = _start(table, job.column, data, task, job.recipe, clock)
        run = _run(checkpoint, job, data, task, start, feed, table, checkpoint_seconds,
                   anew=overwrite)  # fmt: skip
        with clock("training"), _bar(progress, job.recipe, run, task.measure) as told:
            run.go(told)
        result = _finish(target, job, data, task, start, run, feed, table, clock, dividing)
    if cache is None or cache is False:
        shutil.rmtree(place, ignore_errors=True)
    else:
        checkpoint.unlink(missing_ok=True)
        _log.info("Maps stay in %s.", place)
    return result


@dataclass(slots=True)
class _Clock:
    """What each stage takes."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            more = time.perf_counter() - begun
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + more, 3)


def _target(out: str | os.PathLike[str], overwrite: bool) -> Path:
    target = Path(out).expanduser().absolute()
    if target.suffix.lower() != ".safetensors":
        raise TrainingError(f"{target} must end in .safetensors, which is what is written.")
    if target.exists() and not overwrite:
        raise TrainingError(f"{target} exists. Name another file, or give --overwrite.")
    if not target.parent.is_dir():
        raise TrainingError(f"{target}: there is no folder {target.parent}. Make it first.")
    return target


def _check_classes(job: Job, data: Data, allowed: bool) -> None:
    """Refuse weights that tell other classes apart than the images show."""
    head = trained_head(job.extractor.resolved_weights.path)
    if head is None or allowed or data.labelled is None or set(head.names) == set(data.names):
        return
    more, less = (
        sorted(set(data.names) - set(head.names)),
        sorted(set(head.names) - set(data.names)),
    )
    told = [f"{len(more)} more ({listed(more)})"] if more else []
    told += [f"{len(less)} less ({listed(less)})"] if less else []
    raise TrainingError(
        f"{job.extractor.resolved_weights.path} was fine-tuned to {len(head.names)} classes, and "
        f"the images show {' and '.join(told)}. Give --new-classes to train a new head, or correct "
        "the folders."
    )


def _fill_plain(
    maps: MapCache, job: Job, size: Size, disk: int | None, progress: Any, clock: _Clock,
    *, source: Source, **asked: Any,
) -> None:  # fmt: skip
    drawn = job.recipe.augment if job.maps else 0
    rows = maps.missing(maps.plain, size.images)
    rows += sum(maps.missing(maps.drawn(job.view(at)), size.train) for at in range(1, drawn + 1))
    maps.check_disk(rows, disk)
    with clock("frozen layers"):
        summary = maps.fill_plain(source, progress, **asked)
    for path, why in summary.failures:
        _log.warning("Left out: %s: %s", path, why)


def _feed(
    maps: MapCache, job: Job, data: Data, table: FeatureStore, source: Source, progress: Any,
    clock: _Clock, stack: ExitStack,
) -> Feed:  # fmt: skip
    """Return what gives the inputs of the first trained layer, by position in `data.rows`."""
    from vggfeat.finetuning.feeding import CachedFeed, ImageFeed

    paths = list(map(str, table.paths[data.rows]))
    if not job.maps:
        return ImageFeed(job.extractor, source, paths, job.view, job.before)
    learnt = [paths[at] for at in data.learn.tolist()]
    tables, rows = [table], [data.rows]
    for variant in range(1, job.recipe.augment + 1):
        with clock("frozen layers"):
            maps.fill_drawn(source, learnt, job.view(variant), progress)
        drawn = stack.enter_context(FeatureStore(maps.drawn(job.view(variant))))
        tables.append(drawn)
        number = {path: row for row, path in enumerate(drawn.paths.tolist())}
        own = np.array([number.get(path, -1) for path in paths], np.int64)
        lost = [at for at in data.learn.tolist() if own[at] < 0 or not drawn.done[own[at]]]
        if lost:  # it was decoded for the plain view: it changed meanwhile
            raise TrainingError(
                f"{paths[lost[0]]!r} could be read for its plain view and not for the others. "
                "Start again; what is done is not done again."
            )
        rows.append(own)
    return CachedFeed(tables, [job.maps] * len(tables), rows, job.shape)


def _start(
    table: FeatureStore, column: str, data: Data, task: Task, recipe: Recipe, clock: _Clock
) -> Start:
    """Train the linear probe that the head starts as."""
    with clock("linear probe"):
        _, X = table.matrix(column, data.rows[data.learn])
        return task.start(X, data.y[data.learn], data.groups, recipe.seed, silent)


def _run(
    path: Path, job: Job, data: Data, task: Task, start: Start, feed: Feed,
    table: FeatureStore, seconds: float, *, anew: bool,
) -> Run:  # fmt: skip
    from vggfeat.finetuning.model import Tuned
    from vggfeat.finetuning.order import Order
    from vggfeat.finetuning.training import Run, outputs_of

    network, recipe = job.extractor.network, job.recipe
    scale = 1.0
    if not start.normalize:
        _, X = table.matrix(job.column, data.rows[data.learn])
        scale = float(np.linalg.norm(X, axis=1).mean()) or 1.0
    tail = None if recipe.first == HEAD else network.tail(recipe.first, job.layer)
    tuned = Tuned(
        tail, job.layer, job.pool, start.coef, start.intercept, normalize=start.normalize,
        scale=scale,
    )  # fmt: skip
    tuned.to(network.device)
    digest = hashlib.sha256(json.dumps(data.about(table)).encode()).hexdigest()
    settings = recipe.to_json() | {
        "weights": job.extractor.resolved_weights.sha256,
        "preprocessing": job.extractor.resolved_weights.preprocessing.to_json(),
        "model": job.extractor.model,
    }
    about = {"settings": json.loads(json.dumps(settings)), "classes": list(data.names),
             "images": digest}  # fmt: skip
    checkpoint = Checkpoint(path, about, seconds)
    if anew:
        checkpoint.path.unlink(missing_ok=True)
    held = max(1, (1 << 28) // (2 * math.prod(job.shape)))
    order = Order(len(data.learn), recipe.augment + 1, held, recipe.seed)

    def watched(model: Tuned) -> float:
        return task.score(outputs_of(model, feed, data.watch), data.y[data.watch])

    return Run(
        tuned, task, task.targets(data.y[data.learn]), _Learnt(feed, data.learn), order, recipe,
        checkpoint, watched if len(data.watch) else None, _micro(job, network.device.type),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Learnt:
    """The feed of the training images by their own positions."""

    feed: Feed
    positions: Any

    @property
    def held(self) -> int:
        return self.feed.held

    def read(self, positions: Any, variants: Any) -> Any:
        return self.feed.read(self.positions[positions], variants)


def _micro(job: Job, device: str) -> int:
    """Return how many images may run at a time, by what their activations take."""
    from vggfeat.memory import available_memory

    if job.recipe.first == HEAD:
        return 1 << 30
    network = job.extractor.architecture
    run = network.layers[network.names.index(job.recipe.first) : network.names.index(job.layer) + 1]
    # Of each layer its output and that output's gradient are there at once, in float32.
    each = (
        2 * 4 * (math.prod(job.shape) + sum(math.prod(network.output_shape(o.name)) for o in run))
    )
    free = available_memory() if device == "cpu" else None
    if device.startswith("cuda"):
        import torch

        free = torch.cuda.mem_get_info()[0]
    return 1 << 30 if free is None else max(1, free // 4 // each)


@contextmanager
def _bar(
    progress: Progress | bool | None, recipe: Recipe, run: Run, measure: str
) -> Iterator[Callable[[int, int, float, float | None], object]]:
    """Give what shows how far training is: images, loss, last score, time left."""
    total = recipe.epochs * run.order.images
    if callable(progress):
        progress("training", run.done, total)
        yield lambda _epoch, more, _loss, _score: progress("training", more, total)
        return
    shown = None if progress is None else bool(progress)
    bar = progress_bar(shown, desc="training", unit="img", total=total, initial=run.done)

    def told(epoch: int, more: int, loss: float, score: float | None) -> None:
        facts = {"epoch": f"{epoch}/{recipe.epochs}", "loss": f"{loss:.4f}"}
        if score is not None:
            facts[measure] = f"{score:.2%}"
        bar.set_postfix(facts, refresh=False)
        bar.update(more)

    try:
        yield told
    finally:
        bar.close()


def _finish(
    target: Path, job: Job, data: Data, task: Task, start: Start, run: Run, feed: Feed,
    table: FeatureStore, clock: _Clock, dividing: dict[str, Any],
) -> FinetuneResult:  # fmt: skip
    """Score the test images, write the weights, and tell."""
    from vggfeat.finetuning.results import (
        FinetuneResult,
        gain_of,
        score_of,
    )
    from vggfeat.finetuning.scoring import tuned_result
    from vggfeat.finetuning.tasks import NumberTargets
    from vggfeat.finetuning.training import outputs_of
    from vggfeat.finetuning.writing import write_weights
    from vggfeat.probe import evaluate_numbers

    recipe, best, model = job.recipe, run.best, run.finish()
    with clock("test"):
        outputs = outputs_of(model, feed, data.test)
        tuned = tuned_result(table, job.column, data, task, start, outputs, recipe.seed)
    with clock("linear probe"):
        if data.numbers is not None:
            probe: Any = evaluate_numbers(
                table, job.column, data.numbers, test_size=dividing["test_size"],
                seed=recipe.seed, look_for_leaks=True,
            )  # fmt: skip
        else:
            probe = evaluate(
                table, job.column, class_weight=recipe.class_weight, seed=recipe.seed,
                look_for_leaks=True, calibrate=True, **dividing,
            )  # fmt: skip
    gain = gain_of(tuned, probe, data.division.test_groups)
    weight, bias = model.coefficients()
    if isinstance(task, NumberTargets):
        weight, bias = weight * task.spread[:, None], bias * task.spread + task.mean
    head = TrainedHead(
        kind=task.kind, model=job.extractor.model, layer=job.layer, pool=job.pool, view="center",
        normalize=start.normalize, names=tuple(data.names), strength=start.strength,
        n_train=len(data.learn), weight=weight, bias=bias,
    )  # fmt: skip
    told = {
        "source": table.latest.source,
        "base": {"weights": job.extractor.resolved_weights.spec,
                 "sha256": job.extractor.resolved_weights.sha256},
        "recipe": recipe.to_json(),
        "images": {"train": len(data.learn), "validation": len(data.watch),
                   "test": len(data.test)},
        "divided": data.division.describe() or "drawn image by image",
        "measure": gain.measure,
        "tuned": score_of(tuned),
        "probe": score_of(probe),
        "gain": gain.to_json(),
        "epoch": best,
        "made": now(),
        "versions": versions(),
    }  # fmt: skip
    write_weights(target, job.extractor.network, model, head, told)
    stored = sum(
        file.stat().st_size for file in Path(table.path).parent.glob("*.h5") if file.is_file()
    )
    _log.info("Maps took %s of disk.", size_text(stored))
    return FinetuneResult(
        path=target, model=job.extractor.model, recipe=recipe, why=job.why, kind=task.kind,
        measure=gain.measure, tuned=tuned, probe=probe, gain=gain, epochs=run.epochs, best=best,
        cached=stored, seconds=dict(clock.seconds), n_watch=len(data.watch),
    )  # fmt: skip
