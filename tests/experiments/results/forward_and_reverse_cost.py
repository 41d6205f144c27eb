"""Results of `forward_and_reverse_cost`: one as it should be, then falsified ones."""

import numpy as np

from experiments.autodiff import forward_and_reverse_cost as cost
from experiments.autodiff.forward_and_reverse_cost import FORWARD, INPUTS, OUTPUTS, REVERSE


def results():
    sizes = np.array([2, 32, 512])
    flat, steep = np.full(3, 2.0), 1.0 + sizes
    good = cost.Result(
        sizes,
        {INPUTS: {FORWARD: steep, REVERSE: flat}, OUTPUTS: {FORWARD: flat, REVERSE: steep}},
        {INPUTS: {FORWARD: 513.0, REVERSE: 2.0}, OUTPUTS: {FORWARD: 2.0, REVERSE: 513.0}},
        {INPUTS: 1e-7, OUTPUTS: 1e-7},
        {FORWARD: 1e-3, REVERSE: 1e-5},
    )
    yield good
    # The modes the other way round.
    yield good._replace(cost={INPUTS: good.cost[OUTPUTS], OUTPUTS: good.cost[INPUTS]})
    yield good._replace(
        difference={INPUTS: 1e-3, OUTPUTS: 1e-3}, seconds={FORWARD: 1e-5, REVERSE: 1e-5}
    )
