"""Results of `activation_gains`: one as it should be, then falsified ones."""

import numpy as np

from experiments.initialization import activation_gains as gains


def results():
    slopes = dict.fromkeys(gains.ACTIVATIONS, 0.5) | {"GELU": 1.14, "SiLU": 1.17, "Mish": 1.08}
    rng = np.random.default_rng(0)
    noise = {name: rng.standard_normal((20, 50)) for name in slopes}
    scatter = {name: 3.0 if slope > 1 else 0.1 for name, slope in slopes.items()}
    scatter = {name: np.append([0, 0.1], np.full(48, value)) for name, value in scatter.items()}
    halved = 0.5 ** np.arange(gains.SHORT)
    good = gains.Result(
        with_gain={name: np.exp(scatter[name] * noise[name]) for name in slopes},
        without={name: halved * np.exp(0.1 * noise[name][:, : gains.SHORT]) for name in slopes},
        predicted_without=dict.fromkeys(slopes, halved),
        slope=slopes,
        predicted_scatter=scatter,
    )
    yield good
    yield good._replace(with_gain={n: 2 * runs for n, runs in good.with_gain.items()})
    yield good._replace(without={n: 2 * runs for n, runs in good.without.items()})
    yield good._replace(with_gain={n: runs**3 for n, runs in good.with_gain.items()})
    yield good._replace(with_gain={n: runs**0.2 for n, runs in good.with_gain.items()})
