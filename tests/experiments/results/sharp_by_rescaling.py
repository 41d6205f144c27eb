"""Results of `sharp_by_rescaling`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import sharp_by_rescaling as rescaling


def results():
    factors = 2.0 ** np.arange(7)
    good = rescaling.Result(
        factors=factors,
        change=np.zeros(7),
        plain=dict.fromkeys(rescaling.KINDS, 7.0 * factors**2),
        adaptive=dict.fromkeys(rescaling.KINDS, np.full(7, 2.6)),
    )
    yield good
    yield good._replace(change=np.full(7, 0.1), plain=good.adaptive, adaptive=good.plain)
