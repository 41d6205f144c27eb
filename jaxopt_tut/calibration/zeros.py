"""Weights of zero: those that are meant, and those that are to be drawn.

A matrix of zeros beside others that are none is set so on purpose: the second factor of LoRA, the
last layer of a residual branch or of an adapter, a convolution of ControlNet, the readout of a muP
model. Each starts as if it were not there, and learns at once, as what it reads is not zero.
Where all are zero nothing was meant: no layer but the first can learn.
"""

from dataclasses import replace

from jaxopt_tut.calibration.checking import SAME
from jaxopt_tut.calibration.network import Network
from jaxopt_tut.initializers import equal_variance
from jaxopt_tut.types import PRNGKey


def keep_zero_weights(network: Network, keep_zeros: bool | None) -> set[str]:
    """Name the layers whose weights of zero stay, and say so in what the network leaves.

    For True all of them, for False none, for None all unless every layer's weight is zero.
    """
    zero = {layer.name for layer in network.layers if network.is_zero(layer)}
    if keep_zeros is False or (keep_zeros is None and len(zero) == len(network.layers)):
        return set()
    network.left |= dict.fromkeys(
        (layer.name for layer in network.layers if layer.name in zero),
        "it is zero, taken as meant; keep_zeros=False draws it",
    )
    return zero


def with_advice(unmet: dict[str, str], kept: set[str]) -> dict[str, str]:
    """Add to what is the same for all examples that weights of zero were kept, if they were."""
    if not kept:
        return unmet
    advice = f"{SAME}; weights of zero were kept, keep_zeros=False draws them"
    return {name: advice if why == SAME else why for name, why in unmet.items()}


def stalled_zeros(key: PRNGKey, network: Network, kept: set[str]) -> dict[str, str]:
    """List the weights of zero that cannot learn, as what they read is the same for all examples.

    Weights are drawn in their place, on trial.
    """
    if not kept:
        return {}
    trial = replace(network, weights=dict(network.weights))
    for layer in network.layers:
        if layer.name in kept:
            trial.draw(key, layer, equal_variance())
    spreads = trial.spreads(silenced=kept)
    return {
        name: "it is zero, and what it reads is the same for all examples: it cannot learn"
        for name in spreads
        if name in kept and not spreads[name].varies.any()
    }
