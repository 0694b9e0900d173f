"""Places for workers on a Ray cluster: one for each GPU, or shares of the CPUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vggfeat.errors import DeviceError

_CPUS = 16
"""Most CPUs of a worker without a GPU: a choice between threads that wait for one another and a
second copy of the weights in memory, not a measurement."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one worker runs.

    Attributes
    ----------
    node : str
        Ray's id of the node.
    host : str
        What people call it.
    number : int
        From 0 on, among those of the node.
    cpus, gpus : int
        What Ray keeps for it. Its decoding threads run on the same CPUs: nothing else of vggfeat's
        needs any, so that it may have all of a node.
    """

    node: str
    host: str
    number: int
    cpus: int
    gpus: int


def slots_of(nodes: Iterable[Mapping[str, Any]], device: str) -> list[Slot]:
    """Return a slot for each GPU of a cluster; or where it has none, for every 16 CPUs of a node.

    Parameters
    ----------
    nodes : iterable of dict
        As ``ray.nodes()`` gives them; those that are not alive are left out.
    device : str
        As a :class:`~vggfeat.FeatureExtractor` takes it. With ``"auto"`` nodes without a GPU are
        left out where others have some: their last bits would differ.

    Returns
    -------
    list of Slot
        First slots of all nodes first, so that a few workers are spread.

    Raises
    ------
    DeviceError
        A GPU is asked for, and no node has one; or one is asked for by its number.
    """
    if device.startswith("cuda:"):
        raise DeviceError(
            f"device is {device!r}, but Ray gives each worker a GPU of its own. Say cuda, or auto."
        )
    alive = [node for node in nodes if node["Alive"]]
    gpus = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in alive}
    wanted = device in ("auto", "cuda") and any(gpus.values())
    if device == "cuda" and alive and not wanted:
        raise DeviceError("No node of the Ray cluster offers a GPU. Say --device auto, or cpu.")
    slots = []
    for node in alive:
        cpus = int(node["Resources"].get("CPU", 0))
        count = gpus[node["NodeID"]] if wanted else -(-cpus // _CPUS)
        slots += [
            Slot(node["NodeID"], node["NodeManagerHostname"], number, cpus // count, int(wanted))
            for number in range(count)
        ]
    return sorted(slots, key=lambda slot: (slot.number, slot.node))
