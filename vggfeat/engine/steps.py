"""What a plan consists of: steps, the memory that they use, and how often they run."""

from __future__ import annotations

from dataclasses import dataclass

from vggfeat.engine.memory import Lifetime
from vggfeat.engine.transforms import ELEMENTS, OUTPUTS

GAP = 64
"""Bytes between the 36 matrices of filters, V and M; :mod:`~vggfeat.engine.kernels` says why."""


@dataclass(frozen=True)
class Step:
    """One kernel's run, or for few tiles that of its three phases.

    Attributes
    ----------
    kind : str
        ``"border"`` (copy the inputs into a border of zeros), ``"direct"``, ``"winograd"``,
        ``"pool"`` or ``"rectify"`` (in place).
    layers : tuple of str
        Layers that it computes; the last one's activation is its output.
    source, target : int
        Buffers of :attr:`Plan.buffers`.
    height, width, inputs : int
        Of the map that goes in, channels as they are in memory.
    outputs : int
        Channels that come out, as they are in memory.
    channels : int
        Channels that come out, without padding.
    rectified, pooled : bool
        Whether ReLU, and 2 x 2 max-pooling, are part of it.
    captured : bool
        Whether its output was asked for.
    tiles : int
        Of a block, for ``"winograd"``; 0 where threads share the phases instead.
    """

    kind: str
    layers: tuple[str, ...]
    source: int
    target: int
    height: int
    width: int
    inputs: int
    outputs: int
    channels: int
    rectified: bool = False
    pooled: bool = False
    captured: bool = False
    tiles: int = 0

    @property
    def halved(self) -> bool:
        """Whether the map that comes out has half the height and width."""
        return self.pooled or self.kind == "pool"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the map that comes out, as they are in memory."""
        if self.kind == "border":
            return self.height + 2, self.width + 2, self.outputs
        halves = 1 + self.halved
        return self.height // halves, self.width // halves, self.outputs

    def tiles_of(self, images: int) -> int:
        """Return into how many tiles maps of this step are cut."""
        return images * -(-self.height // OUTPUTS) * -(-self.width // OUTPUTS)

    def scratch(self, images: int) -> tuple[int, int]:
        """Return bytes of V and of M: a thread's own, or for all where they share the phases."""
        if self.kind != "winograd":
            return 0, 0
        tiles = self.tiles or self.tiles_of(images)
        v, m = (ELEMENTS * (4 * tiles * channels + GAP) for channels in (self.inputs, self.outputs))
        return v, m


@dataclass(frozen=True)
class Buffer:
    """Memory of a plan.

    Attributes
    ----------
    name : str
        What lies in it.
    images : int
        How many images' maps it holds; 1 for scratch memory.
    values : int
        float32 values of one image.
    life : Lifetime
        Bytes, with guards, and the steps during which it is alive.
    offset : int
        Where its values begin, in bytes.
    """

    name: str
    images: int
    values: int
    life: Lifetime
    offset: int = 0

    @property
    def bytes(self) -> int:
        """Size without guards."""
        return 4 * self.images * self.values


@dataclass(frozen=True)
class Section:
    """Steps that run on `images` images at a time, one step after the other."""

    images: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Plan:
    """What :func:`vggfeat.engine.plan.compiled` makes.

    Attributes
    ----------
    images, height, width : int
        Inputs that it is for; fewer images may run.
    threads : int
        That it is for.
    sections : tuple of Section
        The first runs several times for each run of the next one.
    buffers : tuple of Buffer
        Maps, by the numbers that steps name; behind them V and M of each thread.
    bytes : int
        Memory in all.
    guards : int
        Bytes around each buffer that nothing may change.
    """

    images: int
    height: int
    width: int
    threads: int
    sections: tuple[Section, ...]
    buffers: tuple[Buffer, ...]
    bytes: int
    guards: int = 0

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order they first run."""
        return tuple(step for section in self.sections for step in section.steps)

    def scratch(self, thread: int) -> tuple[Buffer, Buffer]:
        """Return V and M of a thread."""
        first = len(self.buffers) - 2 * self.threads + 2 * thread
        return self.buffers[first], self.buffers[first + 1]

    def describe(self) -> str:
        """Return the plan as a table for people."""
        lines = [
            f"{self.images} x {self.height} x {self.width}, {self.threads} threads, "
            f"{self.bytes / 2**20:.1f} MiB"
        ]
        for section in self.sections:
            lines.append(f"{section.images} images at a time:")
            for step in section.steps:
                h, w, c = step.shape
                how = f"blocks of {step.tiles} tiles" if step.tiles else ""
                how = "phases shared by threads" if step.kind == "winograd" and not how else how
                lines.append(
                    f"  {step.kind:9}{' + '.join(step.layers):28}{h:4} x{w:4} x{c:4}  "
                    f"{self._place(step.source)} -> {self._place(step.target)}"
                    f"{'  ' + how if how else ''}{'  captured' if step.captured else ''}"
                )
        return "\n".join(lines)

    def _place(self, number: int) -> str:
        if number < 0:
            return "inputs"
        buffer = self.buffers[number]
        return f"{buffer.offset / 2**20:.1f}..{(buffer.offset + buffer.bytes) / 2**20:.1f}"
