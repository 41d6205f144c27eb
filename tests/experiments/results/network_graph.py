"""Results of `network_graph`: one as it should be, then falsified ones."""

import jax
import numpy as np

from experiments.autodiff import network_graph as network


def results():
    batch = network.make_batch(network.Config().quick())
    deltas, gradients = network.by_hand(*batch)
    gradients = jax.tree.leaves(gradients)
    good = network.Result(
        batch=batch,
        loss_adjoint=1.0,
        gradients=gradients,
        jax_gradients=gradients,
        deltas=deltas,
        taps_deltas=deltas,
        hand_deltas=deltas,
        hand_gradients=gradients,
        changes=np.full(3, 0.3),
    )
    yield good
    # One path of several is forgotten.
    yield good._replace(
        loss_adjoint=0.0,
        gradients=[gradient / 2 for gradient in gradients],
        deltas=[delta / 2 for delta in deltas],
        changes=np.array([0.1, 0.2, 0.3]),
    )
