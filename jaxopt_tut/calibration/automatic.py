"""Initialization that reads the network: theory where it applies, a measurement elsewhere."""

import math
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Key

from jaxopt_tut.calibration.lsuv import calibrate, make_report, require_finite, require_target
from jaxopt_tut.calibration.network import Network, Variances, read_network, require_concrete
from jaxopt_tut.calibration.reports import CalibrationReport, How
from jaxopt_tut.initializers import equal_variance
from jaxopt_tut.types import Batch, Params

_NORMALISED = "a normalisation follows, its scale has no effect"


def auto_init(
    key: Key[Array, ""],
    fn: Callable,
    params: Params,
    batch: Batch,
    *,
    target: float = 1.0,
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
    layers of 32 units or more where the batch refutes theory by more than a factor of two: in a
    network as deep as it is wide, the deviations of single layers add up. A weight directly in
    front of a normalisation, biases and norms are left, and the report says so.
    Costs two compilations for each `fn` and shapes, and a few evaluations.

    Args:
      key: Draws weights and noise.
      fn: `fn(params, batch)`: a model or a loss.
      params: Parameters of the model; the weights of its layers are replaced.
      batch: At least two examples; the first layer's scale and the verification come from them.
      target: The variance $v > 0$.

    Returns:
      The parameters, and predicted against measured variances.

    Raises:
      TypeError: If `fn` cannot be traced, a parameter is an integer array, or it is called inside
        a transformation such as `jit`: it decides by what it measures.
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
    network = read_network("auto_init", fn, params, batch)
    before = network.variances()
    weight_key, noise_key = jax.random.split(key)
    how: dict[str, How] = {}
    normalised = {
        layer.param: all(
            other.is_normalized for other in network.layers if other.param == layer.param
        )
        for layer in network.layers
    }
    for layer in network.layers:
        if normalised[layer.param]:
            network.left[layer.name] = _NORMALISED
            continue
        is_covered = layer.is_elementwise and layer.num_uses == 1
        how[layer.name] = "theory" if is_covered else "measured"
        network.draw(weight_key, layer, equal_variance())
    expected = network.gaussian_variances(noise_key, target)
    require_finite("auto_init", expected)
    scaled = {layer.param: layer for layer in network.layers if layer.name in how}
    for layer in scaled.values():
        size = expected[layer.name]
        size = np.log(np.where(size > 0, size, target))
        over = tuple(range(layer.num_weight_steps, size.ndim))
        network.scale(layer, np.exp((math.log(target) - size.mean(axis=over)) / 2))
    while True:
        measured = {name for name, way in how.items() if way == "measured"}
        after, converged = network.variances(), True
        if measured:
            after, converged = calibrate("auto_init", network, measured, target, 0.01, 20)
        require_finite("auto_init", after)
        refuted = _first_refuted(network, how, after, target)
        if refuted is None:
            break
        how[refuted] = "measured"
    predicted = {
        name: np.full_like(after[name], target) for name, way in how.items() if way == "theory"
    }
    return network.merged(), make_report(network, before, predicted, after, how, converged)


def _first_refuted(network: Network, how: dict[str, How], after: Variances, target) -> str | None:
    """Find the first layer that theory was wrong about; the ones behind may suffer from it alone.

    A variance over n units scatters by a relative root of 2 / n. With 32 units a factor of two is
    four times that; narrower layers say nothing.
    """
    for layer in network.layers:
        if how.get(layer.name) == "theory" and layer.fan_out >= 32:
            ratio = float(after[layer.name]) / target
            if not 0.5 < ratio < 2:
                return layer.name
    return None
