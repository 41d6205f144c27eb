"""Results of `price_forecast`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import price_forecast as prices

NO_GAPS = {"implicit": 1e-14, "unrolled": 1e-14}


def results():
    noise = np.random.default_rng(0).standard_normal((2, 60, 10))
    persistence = 1 + 0.1 * noise[0]
    errors = {
        prices.NETWORK: np.stack([persistence + 0.03, persistence + 0.05]) + 0.05 * noise[1],
        prices.RIDGE: persistence[None] + 0.01 + 0.05 * noise[1],
        prices.PUBLISHED: np.full((1, 60, 10), 200.0),
    }
    good = prices.Result(errors, persistence, np.array([1.0, 0.9]), NO_GAPS)
    yield good
    yield good._replace(
        errors={name: np.full((1, 60, 10), 0.5) + 0.05 * noise[1] for name in errors},
        strengths=np.ones(2),
        gradient_gaps=dict.fromkeys(NO_GAPS, 1e-3),
    )
