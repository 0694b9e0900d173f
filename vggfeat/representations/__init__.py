"""Comparing representations: RDMs, CKA and RSA of layers, networks, subjects.

:func:`rdm` and :func:`save_rdms` compute RDMs of a store (:mod:`~vggfeat.representations.distances`
says how exactly), :func:`read_rdms` reads those of others. :func:`compare` compares
representations each with each other, :func:`compare_to` with targets, with noise ceilings and tests
(:mod:`~vggfeat.representations.inference`). The formulae themselves take arrays: :func:`cka` and
:func:`hsic` of kernels, :func:`linear_cka` and :func:`rbf_cka` of features, :func:`rsa` of RDMs.
Nothing here imports torch.
"""

from __future__ import annotations

from vggfeat.representations.against import Fits, LayerFit, Pair, compare_to
from vggfeat.representations.cka import cka, hsic, linear_cka, minibatch_cka, rbf_cka
from vggfeat.representations.comparing import Comparison, Source, Title, compare
from vggfeat.representations.crossnobis import crossnobis
from vggfeat.representations.given import read_rdms
from vggfeat.representations.inference import OVER, Scores, Tested, Uncertainty
from vggfeat.representations.measures import MEASURES
from vggfeat.representations.rdm_files import FORMS, save_rdms
from vggfeat.representations.rdms import RDMs, rdm
from vggfeat.representations.represented import SIMILARITIES, How
from vggfeat.representations.rsa import CORRELATIONS, rsa

__all__ = [
    "CORRELATIONS",
    "FORMS",
    "MEASURES",
    "OVER",
    "SIMILARITIES",
    "Comparison",
    "Fits",
    "How",
    "LayerFit",
    "Pair",
    "RDMs",
    "Scores",
    "Source",
    "Tested",
    "Title",
    "Uncertainty",
    "cka",
    "compare",
    "compare_to",
    "crossnobis",
    "hsic",
    "linear_cka",
    "minibatch_cka",
    "rbf_cka",
    "rdm",
    "read_rdms",
    "rsa",
    "save_rdms",
]
