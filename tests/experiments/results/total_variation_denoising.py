"""Results of `total_variation_denoising`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import total_variation_denoising as denoising
from experiments.bilevel.total_variation_denoising import GRID


def results():
    rng = np.random.default_rng(0)
    bowl = 0.18 + 0.05 * np.log(GRID / 2.0)[:, None] ** 2
    scatter = 1 + 0.05 * rng.standard_normal((2, 60))
    good = denoising.Result(
        learned=2.0,
        train_errors=bowl * scatter[0],
        learned_train_errors=0.18 * scatter[0],
        test_errors=bowl * scatter[1],
        learned_test_errors=0.18 * scatter[1],
        oracle_errors=0.05 * scatter[1],
        segments_a_sample=0.05,
        gradient_gaps={"finite differences": 1e-11, "implicit, of the dual": 1e-12},
        example={},
    )
    yield good
    yield good._replace(
        learned=4.0,
        learned_train_errors=0.2 * scatter[0],
        learned_test_errors=0.3 * scatter[1],
        oracle_errors=0.3 * scatter[1],
        gradient_gaps=dict.fromkeys(good.gradient_gaps, 1e-3),
    )
