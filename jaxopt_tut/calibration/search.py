"""Descent on the factors of weights: the loss of them, what was found, and which is returned."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxopt_tut.calibration.checking import nonfinite_leaves
from jaxopt_tut.calibration.network import Frame, Network
from jaxopt_tut.calibration.reporting import make_report
from jaxopt_tut.calibration.reports import CalibrationReport, How
from jaxopt_tut.calibration.spread import Spread
from jaxopt_tut.hyperparameters import require_nonnegative
from jaxopt_tut.jaxprs import function_of
from jaxopt_tut.types import Batch, Params, PyTree


class Tried(NamedTuple):
    """What was found at each step of a descent.

    Attributes:
      objective: What is minimised.
      scales: The factor of each leaf that it was taken at.
      loss: At these factors.
      gradient_norms: Of each leaf, largest absolute entry.
      has_slopes: Whether the derivatives of the objective by the factors were finite.
    """

    objective: Float[Array, " step"]
    scales: list[Float[Array, " step"]]
    loss: Float[Array, " step"]
    gradient_norms: list[Float[Array, " step"]]
    has_slopes: Bool[Array, " step"]


def largest_entry(gradient: Array) -> Float[Array, ""]:
    """Return the largest absolute entry, NaN if there is one; nothing is differentiated by it."""
    gradient = jax.lax.stop_gradient(gradient)
    return jnp.max(jnp.abs(gradient), initial=0).astype(jnp.float32)


def are_finite(tree: PyTree) -> Bool[Array, ""]:
    """Tell whether all numbers of a tree of scalars are finite."""
    return jnp.all(jnp.array([jnp.isfinite(leaf) for leaf in jax.tree.leaves(tree)]))


def where_finite(new: PyTree, old: PyTree) -> PyTree:
    """Stay where the next step would lead to NaN or infinity."""
    return jax.tree.map(partial(jnp.where, are_finite(new)), new, old)


def finished(
    network: Network,
    before: Mapping[str, Spread],
    tried: Tried,
    load: Float[np.ndarray, " step"] | None,
    batch: Batch,
) -> tuple[Params, CalibrationReport]:
    """Apply the best of the factors that were tried, and report.

    The best have the smallest objective among those that keep the constraint, whose load is up to
    1; the last finite ones, if none does; the first ones, if none is finite.
    """
    tried = jax.device_get(tried)
    objective = np.asarray(tried.objective, np.float64)
    is_sound = np.isfinite(objective) & np.isfinite(tried.loss)
    is_sound &= np.all([np.isfinite(norm) for norm in tried.gradient_norms], axis=0)
    is_allowed = is_sound if load is None else is_sound & (load <= 1)
    best = 0
    if is_allowed.any():
        best = int(np.argmin(np.where(is_allowed, objective, np.inf)))
    elif is_sound.any():
        best = int(np.flatnonzero(is_sound)[-1])
    unmet = _unmet(network, tried, is_sound, load, best)
    if not (is_sound.all() and tried.has_slopes.all()):
        unmet = nonfinite_leaves(network.params, batch) | unmet
    for name, factors in zip(network.weights, tried.scales, strict=True):
        weight = network.weights[name]
        if factors[best] != 1:
            network.weights[name] = weight * factors[best].astype(weight.dtype)
    after = network.spreads()
    how: dict[str, How] = {}
    for layer in network.layers:
        if network.is_zero(layer):
            network.left[layer.name] = "it is zero, which no factor changes"
        else:
            how[layer.name] = "learned"
    return network.merged(), make_report(network, before, {}, after, how, unmet, tried.objective)


def _unmet(
    network: Network,
    tried: Tried,
    is_sound: Bool[np.ndarray, " step"],
    load: Float[np.ndarray, " step"] | None,
    best: int,
) -> dict[str, str]:
    """Say what was not finite, at the first step where something was not; and what is not kept."""
    names = list(network.weights)
    if not is_sound.all():
        step = int(np.flatnonzero(~is_sound)[0])
        loss = tried.loss[step]
        if not np.isfinite(loss):
            return {"loss": f"it is {loss:g} at step {step}"}
        for name, norm in zip(names, tried.gradient_norms, strict=True):
            if not np.isfinite(norm[step]):
                return {name: f"its gradient holds {norm[step]:g} at step {step}, the loss not"}
        value = tried.objective[step]
        return {"objective": f"it is {value:g} at step {step}, the loss and its gradient are not"}
    if not any(np.any(weight) for weight in network.weights.values()):
        return {"params": "all are zero, which no factor changes"}
    if not any(norm.any() for norm in tried.gradient_norms):
        return {"loss": "its gradient is zero: it does not depend on the parameters here"}
    if not tried.has_slopes.all():
        step = int(np.flatnonzero(~tried.has_slopes)[0])
        return {"objective": f"its derivative by the factors is not finite at step {step}"}
    if load is not None and load[best] > 1:
        return {"gradient": f"its norm is {load[best]:.3g} times gradient_norm"}
    return {}


def require_options(caller: str, decay: float, num_steps: int, **positive: Any) -> None:
    """Refuse options out of their ranges."""
    if not 0 <= decay < 1:
        raise ValueError(f"{caller} needs 0 <= decay < 1, got decay={decay}.")
    if num_steps < 1:
        raise ValueError(f"{caller} needs num_steps >= 1, got num_steps={num_steps}.")
    require_nonnegative(caller, **positive)


def loss_of(frame: Frame, data: list[Array]) -> Callable[[list[Array]], Float[Array, ""]]:
    """Build the loss as a function of the arrays among the parameters."""
    fun = function_of(frame.jaxpr)

    def loss(weights: list[Array]) -> Float[Array, ""]:
        return fun(*weights, *data)[0]  # what comes behind is `aux`

    return loss


def scaled_by(weights: list[Array], scales: list[Array]) -> list[Array]:
    """Multiply every weight by its factor."""
    return [w * scale.astype(w.dtype) for w, scale in zip(weights, scales, strict=True)]
