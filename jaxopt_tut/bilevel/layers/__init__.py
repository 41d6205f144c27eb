"""Optimizations and fixed points as layers: solved forwards, differentiated by their conditions.

Projections onto balls, boxes, simplices and affine sets are in `optimizers.projections`; they are
differentiable too.
"""

from jaxopt_tut.bilevel.layers.argmin_layer import argmin_layer
from jaxopt_tut.bilevel.layers.deq import deq
from jaxopt_tut.bilevel.layers.qp import QPInfo, QPSolution, qp, qp_solution
from jaxopt_tut.bilevel.layers.ridge import ridge
from jaxopt_tut.bilevel.layers.soft_threshold import soft_threshold
from jaxopt_tut.bilevel.layers.total_variation import prox_tv1d

__all__ = [
    "QPInfo",
    "QPSolution",
    "argmin_layer",
    "deq",
    "prox_tv1d",
    "qp",
    "qp_solution",
    "ridge",
    "soft_threshold",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
