"""Layer-sequential unit variance: scales set by looking at the data."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_tut.calibration.asking import require_key
from jaxopt_tut.calibration.checking import find_unmet, is_finite
from jaxopt_tut.calibration.network import Network, Variances, read_network, require_concrete
from jaxopt_tut.calibration.reporting import give_back, make_report
from jaxopt_tut.calibration.reports import CalibrationReport, How
from jaxopt_tut.calibration.spread import PerStep, Spread
from jaxopt_tut.calibration.zeros import keep_zero_weights, stalled_zeros, with_advice
from jaxopt_tut.hyperparameters import require_nonnegative
from jaxopt_tut.initializers import orthogonal
from jaxopt_tut.taps.inner import Layer
from jaxopt_tut.types import Batch, Params, PRNGKey, PyTree


def lsuv(
    key: PRNGKey,
    fn: Callable[..., Any],
    params: Params,
    batch: Batch,
    *,
    target: float = 1.0,
    tolerance: float = 0.01,
    max_iterations: int = 20,
    keep_zeros: bool | None = None,
    model_state: PyTree = None,
) -> tuple[Params, CalibrationReport]:
    r"""Draw orthogonal weights and scale them, layer by layer, to unit variance on the data.

    $$W_l \gets W_l \sqrt{v / \operatorname{Var}[z_l]}, \qquad l = 1, \dots, L,$$

    where $z_l$ is measured behind the layers calibrated before it. All layers are done in one pass,
    in which every pre-activation is brought to its target before the network goes on; passes are
    repeated until all are within the tolerance, which takes one for weights that are used once and
    have no bias. A weight with several uses (shared, or recurrent) gets the one scale that is right
    in the geometric mean. Use it where theory has no say; `auto_init` needs no data statistics for
    most layers. Costs a few evaluations of `fn`, and two compilations. Biases are kept; a layer
    that does not follow its scale, beside a large bias or a normalised weight, keeps the weights
    as drawn, and the report says so. Weights of zero beside others are meant, and stay.

    Args:
      key: Draws the weights, and what the function draws.
      fn: `fn(params, batch)`: a model or a loss. One that draws takes a key,
        `(params, batch, key)`; `model_state` comes last, as in `fit`.
      params: Parameters of the model; the weights of its layers are replaced.
      batch: The data, at least two examples.
      target: The variance $v > 0$.
      tolerance: Largest relative deviation from it.
      max_iterations: Most passes.
      keep_zeros: Whether weights that are all zero stay: LoRA's second factor, the last layer of
        a residual branch. None: they do, unless every layer's weight is zero.
      model_state: For a function that is handed a state, such as running averages.

    Returns:
      The parameters, and what was done. Where NaN or infinities in `batch` or in what is not drawn
      make a variance so, the parameters as they came, with `converged` false and its name in
      `unmet`.

    Raises:
      TypeError: If `fn` cannot be traced, a parameter is an integer array, `key` is not one typed
        key, there is no array in `params` or `batch`, or it is called inside a transformation
        such as `jit`: it decides by what it measures.
      ValueError: If no weight meets data where it can be reached, the batch holds one example, a
        variance is not finite, or an option is out of its range.

    Example:
      >>> import jax
      >>> from jaxopt_tut.models import mlp
      >>> params = mlp.init(jax.random.key(0), (8, 32, 32, 4))
      >>> x = 5 * jax.random.normal(jax.random.key(1), (64, 8))
      >>> params, report = lsuv(jax.random.key(2), mlp.apply, params, x)
      >>> [bool(abs(z.var() - 1) < 0.01) for z in mlp.apply(
      ...     params, x, return_pre_activations=True)[1]]
      [True, True, True]

    References:
      Mishkin, Matas (2016), algorithm 1 (there with a tolerance of 0.1).
      https://arxiv.org/abs/1511.06422
    """
    require_concrete("lsuv", key, params, batch, target, tolerance)
    require_target("lsuv", target)
    if max_iterations < 1:
        raise ValueError(f"lsuv needs max_iterations >= 1, got max_iterations={max_iterations}.")
    require_nonnegative("lsuv", tolerance=tolerance)
    require_key("lsuv", key)
    network = read_network("lsuv", fn, params, batch, key=key, model_state=model_state)
    before = network.spreads()
    kept = keep_zero_weights(network, keep_zeros)
    drawn = [layer for layer in network.layers if layer.name not in kept]
    for layer in drawn:
        network.draw(key, layer, orthogonal())
    how: dict[str, How] = {layer.name: "measured" for layer in drawn}
    after = calibrate(network, how, target, tolerance, max_iterations)
    if not is_finite(after):
        return give_back("lsuv", network, before, after, params, batch)
    unmet = with_advice(find_unmet(network, how, after, target, tolerance), kept)
    unmet |= stalled_zeros(key, network, kept)
    return network.merged(), make_report(network, before, {}, after, how, unmet)


def require_target(caller: str, target: float) -> None:
    """Refuse a target variance that is not positive and finite."""
    if not (target > 0 and np.isfinite(target)):
        raise ValueError(f"{caller} needs a finite target > 0, got target={target}.")


def calibrate(
    network: Network,
    names: Collection[str],
    target: float,
    tolerance: float,
    max_iterations: int,
) -> dict[str, Spread]:
    """Bring pre-activations to their target by scaling weights in place; return the last spreads.

    A weight whose layer does not follow its scale (beside a large bias, or normalised itself) gets
    back the values that it came with, and the network's `left` says so.
    """
    chosen = [layer for layer in network.layers if layer.name in names]
    weights = dict(network.weights)
    last: dict[str, Move] = {}
    num_shared = len({layer.param for layer in chosen if layer.num_uses > 1})
    after = network.spreads()
    for _ in range(max_iterations):
        on_the_way = {layer.name for layer in chosen if layer.num_uses == 1}
        measured = network.variances(on_the_way, target)
        # where no weight has several uses, a layer is moved by its own scale alone
        stuck = [] if num_shared else [one for one in chosen if _is_stuck(one, measured, last)]
        if stuck:
            for layer in stuck:
                network.weights[layer.param] = weights[layer.param]
                network.left[layer.name] = "its variance does not follow the scale of its weight"
            chosen = [layer for layer in chosen if layer not in stuck]
            last.clear()  # layers behind them read other data from now on
            after = network.spreads()
            continue
        factors: dict[str, list[np.ndarray]] = {}
        for layer in chosen:
            factor = (math.log(target) - _log(measured[layer.name], target)) / 2
            over = tuple(range(layer.num_weight_steps, factor.ndim))
            factors.setdefault(layer.param, []).append(factor.mean(axis=over))
        for layer in {layer.param: layer for layer in chosen}.values():
            # Two weights with several uses change each other's data: full steps may overshoot.
            step = 0.5 if layer.num_uses > 1 and num_shared > 1 else 1.0
            factor = step * np.mean(factors[layer.param], axis=0)
            network.scale(layer, np.exp(factor))
            last[layer.name] = _log(measured[layer.name], 1.0) / 2, factor
        after = network.spreads()
        if _largest_error(chosen, after, target) <= tolerance:
            break
    return after


Move = tuple[PerStep, PerStep]
"""The deviation of a layer, and the factor that its weight got for it, as logarithms."""


def _log(variance: PerStep, otherwise: float) -> PerStep:
    """Take logarithms, of another number where there is nothing to scale."""
    return np.log(np.where((variance > 0) & np.isfinite(variance), variance, otherwise))


def _is_stuck(layer: Layer, measured: Variances, last: Mapping[str, Move]) -> bool:
    """Tell whether a layer moved by less than a twentieth of what its last factor promised.

    A promise below 1 % says nothing.
    """
    if layer.name not in last:
        return False
    deviation, factor = last[layer.name]
    moved = _log(measured[layer.name], 1.0) / 2 - deviation
    is_promise = np.abs(factor).max() > 0.01
    return bool(is_promise and np.sum(moved * factor) < 0.05 * np.sum(factor**2))


def _largest_error(layers: Sequence[Layer], after: Mapping[str, Spread], target: float) -> float:
    """Measure the deviation: of the geometric mean over the uses of a weight.

    A recurrent weight reads a state of zeros at first, which no scale can change.
    """
    logs: dict[str, list[np.ndarray]] = {}
    for layer in layers:
        log = _log(after[layer.name].variance / target, 1.0)
        logs.setdefault(layer.param, []).append(log.ravel())
    errors = [
        np.concatenate(logs[layer.param]).mean() if layer.num_uses > 1 else logs[layer.param][0]
        for layer in layers
    ]
    return max((float(np.abs(np.expm1(error)).max()) for error in errors), default=0.0)
