"""Results of `edge_of_stability`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import edge_of_stability as edge


def results():
    measurements, seeds = 61, 2
    ones = np.ones((seeds, measurements))
    loss = np.tile(np.geomspace(1.0, 0.01, 600), (seeds, 1))
    falling = np.tile(np.linspace(1.5, 0.4, measurements), (seeds, 1))
    good = edge.Result(
        steps=np.arange(0, 601, 10),
        sharpness={name: falling if name == "cross-entropy" else ones for name in edge.RATES},
        critical=ones,
        loss=dict.fromkeys(edge.RATES, loss),
    )
    yield good
    for factor in (0.3, 1.7):  # it stops short of the limit, or passes it
        yield good._replace(
            sharpness={name: factor * values for name, values in good.sharpness.items()},
            critical=factor * ones,
            loss=dict.fromkeys(edge.RATES, loss[:, ::-1]),
        )
