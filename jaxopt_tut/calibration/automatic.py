"""Initialization that reads the network: theory where it applies, a measurement elsewhere."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxopt_tut.calibration.asking import require_key
from jaxopt_tut.calibration.checking import (
    KNOWN,
    THEORY,
    find_unmet,
    is_finite,
    num_rows,
    num_values,
    relative_errors,
)
from jaxopt_tut.calibration.lsuv import calibrate, require_target
from jaxopt_tut.calibration.network import Network, read_network, require_concrete
from jaxopt_tut.calibration.reporting import give_back, make_report
from jaxopt_tut.calibration.reports import CalibrationReport, How
from jaxopt_tut.calibration.spread import Spread
from jaxopt_tut.calibration.zeros import keep_zero_weights, stalled_zeros, with_advice
from jaxopt_tut.initializers import equal_variance
from jaxopt_tut.types import Batch, Params, PRNGKey, PyTree

_NORMALISED = "a normalisation follows, its scale has no effect"
_TOLERANCE = 0.01
"""Of a layer that is measured; it is reached in one pass."""


def auto_init(
    key: PRNGKey,
    fn: Callable[..., Any],
    params: Params,
    batch: Batch,
    *,
    target: float = 1.0,
    keep_zeros: bool | None = None,
    model_state: PyTree = None,
) -> tuple[Params, CalibrationReport]:
    r"""Draw the weights of any network so that every pre-activation has unit variance.

    $$W_l \sim \mathcal N\Bigl(0, \frac{v}{n_l\, E[x_l^2]}\Bigr), \qquad
      x_l = r_l\bigl(z_{i} \sim \mathcal N(0, v) \text{ for all } i \text{ upstream}\bigr)$$

    with the fan-in $n_l$ and the region $r_l$ of the program between the layers upstream and layer
    l: activations of any kind, sums of residual branches, pooling of maxima. It is evaluated on
    Gaussian samples at the shape of the batch, for all layers in one pass, as each pre-activation
    is replaced by noise. No layer has to be known by name; plain functions, nnx, linen and
    equinox are all read.

    Where more than sums and elementwise functions of one signal lies in the region (gates,
    attention, concatenation, means over pixels, scans), or a weight is used twice, theory has no
    say: those layers are marked `"measured"`, and one pass of `lsuv` sets their scales. So are
    layers where the batch does not bear theory out within a factor of two: in a network as deep as
    it is wide the deviations of single layers add up, and long tails (powers, exponentials) are
    not Gaussian behind the second layer. `report.layers[name].error` tells how well the batch
    knows a variance; where it does not, `report.converged` is false and `report.unmet` names the
    layer. A weight directly in front of a normalisation, biases and norms are left, and the report
    says so. So are weights of zero beside others that are not: they are meant (see `keep_zeros`).
    Costs two compilations for each `fn` and shapes, and a few evaluations.

    Args:
      key: Draws weights and noise, and what the function draws.
      fn: `fn(params, batch)`: a model or a loss. One that draws takes a key,
        `(params, batch, key)`; `model_state` comes last, as in `fit`.
      params: Parameters of the model; the weights of its layers are replaced.
      batch: At least two examples; the first layer's scale and the verification come from them.
      target: The variance $v > 0$.
      keep_zeros: Whether weights that are all zero stay: LoRA's second factor, the last layer of
        a residual branch, a readout of zeros. None: they do, unless every layer's weight is zero,
        as after `constant(0)`.
      model_state: For a function that is handed a state, such as running averages.

    Returns:
      The parameters, and predicted against measured variances. Where NaN or infinities in `batch`
      or in what is not drawn make a variance so, the parameters as they came, with `converged`
      false and its name in `unmet`.

    Raises:
      TypeError: If `fn` cannot be traced, a parameter is an integer array, `key` is not one typed
        key, there is no array in `params` or `batch`, or it is called inside a transformation
        such as `jit`: it decides by what it measures.
      ValueError: If no weight meets data where it can be reached, the batch holds one example, an
        activation has no finite second moment, or `target` is not positive.

    Example:
      >>> from jaxopt_tut.models import mlp
      >>> import jax.numpy as jnp
      >>> params = mlp.init(jax.random.key(0), (8, 64, 64, 4))
      >>> def apply(params, x):
      ...     return mlp.apply(params, x, lambda z: jnp.maximum(z, -0.1) ** 2)
      >>> x = jax.random.normal(jax.random.key(1), (128, 8))
      >>> params, report = auto_init(jax.random.key(2), apply, params, x)
      >>> dict(report.how)["1/kernel"], 0.5 < report.layers["1/kernel"].after.item() < 2
      ('theory', True)

    References:
      He, Zhang, Ren, Sun (2015), eq. 8, of which this is the general case.
      https://arxiv.org/abs/1502.01852
      Mishkin, Matas (2016), algorithm 1, for what is measured. https://arxiv.org/abs/1511.06422
    """
    require_concrete("auto_init", key, params, batch, target)
    require_target("auto_init", target)
    require_key("auto_init", key)
    network = read_network("auto_init", fn, params, batch, key=key, model_state=model_state)
    before = network.spreads()
    weight_key, noise_key = jax.random.split(key)
    normalised = {
        layer.param: all(
            other.is_normalized for other in network.layers if other.param == layer.param
        )
        for layer in network.layers
    }
    kept = keep_zero_weights(network, keep_zeros)
    how: dict[str, How] = {}
    for layer in network.layers:
        if layer.name in kept:
            continue
        if normalised[layer.param]:
            network.left[layer.name] = _NORMALISED
            continue
        is_covered = layer.is_elementwise and layer.num_uses == 1
        how[layer.name] = "theory" if is_covered else "measured"
        network.draw(weight_key, layer, equal_variance())
    # Theory: with Gaussian noise for all pre-activations upstream, what does a layer make of them?
    expected = network.gaussian_variances(noise_key, target, kept)
    scaled = {layer.param: layer for layer in network.layers if layer.name in how}
    for layer in scaled.values():
        size = expected[layer.name]
        size = np.log(np.where((size > 0) & np.isfinite(size), size, target))
        over = tuple(range(layer.num_weight_steps, size.ndim))
        network.scale(layer, np.exp((math.log(target) - size.mean(axis=over)) / 2))
    # Where the batch contradicts, measure: one layer more a time, as its errors are passed on.
    while True:
        measured = {name for name, way in how.items() if way == "measured"}
        if measured:
            after = calibrate(network, measured, target, _TOLERANCE, 20)
        else:
            after = network.spreads()
        refuted = _first_refuted(network, how, after, target)
        if refuted is None:
            break
        how[refuted] = "measured"
    if not is_finite(after):
        return give_back("auto_init", network, before, after, params, batch)
    predicted = {
        name: np.full_like(after[name].variance, target)
        for name, way in how.items()
        if way == "theory"
    }
    unmet = with_advice(find_unmet(network, how, after, target, _TOLERANCE), kept)
    unmet |= stalled_zeros(weight_key, network, kept)
    return network.merged(), make_report(network, before, predicted, after, how, unmet)


def _first_refuted(
    network: Network, how: Mapping[str, How], after: Mapping[str, Spread], target: float
) -> str | None:
    """Find the first layer that theory was wrong about; the ones behind may suffer from it alone.

    A variance over n numbers scatters by a relative root of 2 / n. The one of fewer than eight may
    be small by chance: a weight is not blown up for that.
    """
    relative = relative_errors(network, after)
    for layer in network.layers:
        if how.get(layer.name) != "theory":
            continue
        ratio = float(after[layer.name].variance) / target
        # two errors away from the bounds, so that the data is within them too
        margin = 1 + min(2 * float(np.nan_to_num(relative[layer.name], nan=1.0)), KNOWN)
        is_many = (num_rows(layer) - 1) * num_values(layer) >= 2 / KNOWN**2
        is_small = 0 < ratio < THEORY[0] * margin
        if not ratio <= THEORY[1] / margin or (is_small and is_many):
            return layer.name
    return None
