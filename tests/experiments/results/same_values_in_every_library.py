"""Results of `same_values_in_every_library`: one as it should be, then falsified ones."""

import numpy as np

from experiments.diagnosis import same_values_in_every_library as libraries
from experiments.diagnosis.same_values_in_every_library import PLAIN

LIBRARIES = (PLAIN, "nnx", "linen", "equinox")
KINDS = ["pre_activation", "activation"] * 2 + ["pre_activation"]


def results():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((4, 3)) for _ in KINDS]
    every = lambda item: dict.fromkeys(LIBRARIES, item)
    good = libraries.Result(every(KINDS), every(KINDS), every(arrays), every(arrays), every(1.0))
    yield good
    # Layers in reverse order, or too few of them.
    other = every(arrays[::-1]) | {PLAIN: arrays}
    yield good._replace(values=other, cotangents=other)
    yield good._replace(kinds=every(KINDS[1:3]) | {PLAIN: KINDS})
    yield good._replace(kinds=every(KINDS[1:]))
