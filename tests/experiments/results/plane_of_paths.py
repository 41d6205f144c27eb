"""Results of `plane_of_paths`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import plane_of_paths
from jaxopt_tut.landscape import Slice, pca_plane


def results():
    rng = np.random.default_rng(0)
    paths = {name: rng.normal(size=(4, 6)).astype(np.float32) for name in plane_of_paths.OPTIMIZERS}
    plane = pca_plane(paths)
    axis = np.linspace(-2, 2, 3)
    surface = Slice((axis, axis), 1 + np.add.outer(axis**2, axis**2), {})

    def result(explained=0.97, shown=(0.8, 0.7, 0.6, 0.5)):
        noise = 1 + 0.01 * rng.normal(size=(4, 4))
        met = np.array([2.8, 1.0, 0.5, 0.25]) * noise
        return plane_of_paths.Result(
            np.full((4, 2), explained / 2) * noise[:, :2],
            dict.fromkeys(paths, met),
            dict.fromkeys(paths, np.tile(shown, (4, 1))),
            plane,
            surface,
        )

    yield result()
    yield result(explained=0.7)
    yield result(shown=(2.8, 0.7, 0.6, 0.5))
    yield result(shown=(0.8, 0.7, 0.6, 0.25))
