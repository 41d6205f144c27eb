"""Results of `tiny_subspace`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import tiny_subspace as tiny


def results():
    own = np.array([[0.62, 0.92, 0.96], [0.87, 0.87, 0.97], [0.74, 0.96, 0.92], [0.80, 0.93, 0.96]])
    foreign = np.array([[0.02, 0.03, 0.02], [0.01, 0.02, 0.03]] * 2)
    way = np.array([[0.04, 0.002], [0.03, 0.006]] * 2)
    good = tiny.Result(own, foreign, way, (0, 3, 30), 9770)
    yield good
    # a gradient that lies anywhere
    yield good._replace(own=np.full((4, 3), 10 / 9770) * [[1.0], [0.9], [1.1], [1.0]])
    # a mean that is high enough, of seeds that say nothing
    yield good._replace(own=np.array([[0.9, 0.99, 0.99]] * 3 + [[0.01, 0.2, 0.2]]))
    # what all networks share
    yield good._replace(foreign=own)
    # a way along the gradient
    yield good._replace(way=own[:, 1:])
