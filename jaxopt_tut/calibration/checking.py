"""Whether each layer that was drawn is where it should be, and what keeps it from there."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxopt_tut.calibration.network import Network, Variances
from jaxopt_tut.calibration.reports import How
from jaxopt_tut.calibration.spread import Spread, relative_error
from jaxopt_tut.taps.inner import Layer, leaf_name
from jaxopt_tut.types import Batch, Params

KNOWN = 0.5
"""A variance is known if its relative error is below this: eight degrees of freedom."""

SAME = "its pre-activations are the same for all examples"

THEORY = (0.5, 2.0)
"""What theory may be wrong by: in a network as deep as it is wide, single layers' errors add up."""


def num_rows(layer: Layer) -> int:
    """Count the examples in a layer's pre-activation; 1 if no axis does."""
    site = layer.pre_activation.site
    return math.prod(site.shape[axis] for axis in site.batch_axes if axis >= layer.num_step_axes)


def num_values(layer: Layer) -> int:
    """Count the pre-activations of one example."""
    shape = layer.pre_activation.site.shape[layer.num_step_axes :]
    return math.prod(shape) // max(num_rows(layer), 1)


def relative_errors(network: Network, spreads: Mapping[str, Spread]) -> Variances:
    """Return the relative standard error of each layer's variance."""
    return {
        layer.name: relative_error(spreads[layer.name], num_rows(layer), num_values(layer))
        for layer in network.layers
    }


def is_finite(spreads: Mapping[str, Spread]) -> bool:
    """Tell whether all variances are finite numbers."""
    return all(np.isfinite(one.variance).all() for one in spreads.values())


def find_unmet(
    network: Network,
    how: Mapping[str, How],
    spreads: Mapping[str, Spread],
    target: float,
    tolerance: float,
) -> dict[str, str]:
    """Say of each layer that was drawn why it is not known to be at its target, if it is not.

    A weight with several uses is judged by the geometric mean over them: a recurrent weight reads
    a state of zeros at first, which no scale can change.
    """
    relative = relative_errors(network, spreads)
    groups: dict[str, list[str]] = {}
    for layer in network.layers:
        if layer.name in how:
            is_shared = layer.num_uses > 1
            groups.setdefault(layer.param if is_shared else layer.name, []).append(layer.name)
    is_shared = {layer.name: layer.num_uses > 1 for layer in network.layers}
    found = {}
    for names in groups.values():
        variance, error, varies = (
            np.concatenate([np.ravel(array) for array in arrays])
            for arrays in zip(
                *((spreads[name].variance, relative[name], spreads[name].varies) for name in names),
                strict=True,
            )
        )
        ratio = variance.astype(np.float64) / target
        bounds = THEORY if how[names[0]] == "theory" else (1 - tolerance, 1 + tolerance)
        why = _reason(ratio, error, varies, bounds, target, is_shared[names[0]])
        for name in names:
            if reason := network.left.get(name, why):
                found[name] = reason
    return {layer.name: found[layer.name] for layer in network.layers if layer.name in found}


def _reason(
    ratio: Float[np.ndarray, "use"],
    error: Float[np.ndarray, "use"],
    varies: Bool[np.ndarray, "use"],
    bounds: tuple[float, float],
    target: float,
    is_shared: bool,
) -> str:
    """Say what is wrong with a variance, relative to its target, and its relative error."""
    if not np.isfinite(ratio).all():
        return f"its variance is {ratio[~np.isfinite(ratio)][0]:g}"
    if not (varies.any() if is_shared else varies.all()):
        return SAME
    if is_shared:
        log = np.log(np.where(ratio > 0, ratio, 1))
        ratio, error = np.exp(log.mean(keepdims=True)), error[varies].mean(keepdims=True)
    if not ((bounds[0] <= ratio) & (ratio <= bounds[1])).all():
        worst = ratio[np.argmax(np.abs(np.log(np.maximum(ratio, np.finfo(float).tiny))))]
        return (
            f"its variance is {worst * target:.3g}, the target {target:.3g}, a relative deviation "
            f"of {abs(worst - 1):.2g}"
        )
    if np.isinf(error).any():
        return "three examples or fewer do not tell how well its variance is known"
    if not (error < KNOWN).all():
        return (
            f"the standard error of its variance is {np.max(error):.0%} of it: there are few "
            "examples, or a few of them make most of it"
        )
    return ""


def nonfinite_leaves(params: Params, batch: Batch) -> dict[str, str]:
    """Say what the floating leaves hold that hold NaN or infinities."""
    found = {}
    for root, tree in (("", params), ("batch", batch)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            bad = first_nonfinite_number(leaf)
            if bad is not None:
                name = "/".join(part for part in (root, leaf_name(path)) if part)
                found[name or "params"] = f"it holds {bad:g}"
    return found


def first_nonfinite_number(leaf: Any) -> float | None:
    """Return the first NaN or infinity of an array; None without one, or for what is no array."""
    dtype = getattr(leaf, "dtype", np.result_type(leaf) if isinstance(leaf, float) else None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        return None
    values = jnp.ravel(jnp.asarray(leaf))
    bad = np.asarray(values[~jnp.isfinite(values)][:1])
    return float(bad[0] if np.isrealobj(bad) else np.abs(bad[0])) if bad.size else None
