"""An exact Winograd engine: VGG's convolutions on CPUs with a quarter of the multiplications.

:mod:`~vggfeat.engine.transforms` derives the algorithm, :mod:`~vggfeat.engine.plan` says which
kernels run on which memory, :mod:`~vggfeat.engine.packing` brings weights into the order in which
:mod:`~vggfeat.engine.kernels` read them, and :mod:`~vggfeat.engine.winograd` puts it together.
docs/engine.md explains it all. Everything here works on NumPy arrays; nothing imports torch.
"""
