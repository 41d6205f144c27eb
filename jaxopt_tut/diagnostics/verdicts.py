r"""Read verdicts off statistics, with thresholds that follow mean-field theory.

At depth l, counted in layers from the data (a step of a scan is a layer more), theory says what a
healthy network shows; a verdict is due an order of magnitude beyond it.

* Forward: a critical tanh network shrinks like $1/(2l)$, a layer of the usual schemes changes the
  mean square of its input by a factor between 0.5 and 2. `"vanishing"` below `0.02 m / l`,
  `"exploding"` above `30 m` (m: mean square of the data, 1 where the data are looked up or not
  normalised either); or where one layer makes less than 0.03 or more than 30 of its input.
* Backward: the total $\sum_i \delta_i^2$ of a layer against that of the last, beyond a factor
  `1e4` for every ten layers in between.
* `"dead"`: for pre-activations with correlation c between n examples the share of units that are
  off for all of them is $\int \varphi(t)\, \Phi(-t \sqrt{c / (1 - c)})^n\, dt$: almost a half in
  a deep network, where c is near 1. The verdict is due 0.25 above that.
* `"rank_collapse"`: at the edge of chaos $1 - c \approx 9 \pi^2 / (2 l^2)$ for ReLU, the slowest
  algebraic decay; the verdict is due at a tenth of that, and never above `1 - c = 0.02`.
* `"saturated"`: 40 % of a layer's activations have a slope below 0.05. At unit variance 3 % of
  tanh's have, at variance 4 some 28 %.
* `"symmetric"`: the gradients of a layer's units take a quarter of the possible values or fewer.
* `"input_not_normalized"`: mean square of the data above 25 or below 1e-4, or mean over standard
  deviation above 5.
* `"logits_too_large"`: standard deviation above 6 in the last layer.
* `"lr_too_high"`: the first step raises the loss of its own batch by 2 %, or an update is as
  large as half of its weight. `"lr_too_low"`: all updates are below 5e-5 of their weights.
* `"non_finite"`: any NaN or infinity.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from jaxopt_tut.diagnostics.statistics import LayerStatistics, Statistics
from jaxopt_tut.diagnostics.summaries import Summary
from jaxopt_tut.taps.layers import Layer

ORDER: tuple[str, ...] = (
    "non_finite", "input_not_normalized", "symmetric", "dead", "exploding", "vanishing",
    "saturated", "rank_collapse", "logits_too_large", "lr_too_high", "lr_too_low",
)  # fmt: skip
"""What can be wrong, causes before what they cause."""


class Thresholds(NamedTuple):
    """Where verdicts begin; the module says what each number means."""

    vanishing: float = 0.02
    exploding: float = 30.0
    small_factor: float = 0.03
    backward: float = 1e4
    dead_above_prediction: float = 0.25
    saturated: float = 0.4
    symmetric: float = 0.25
    collapse: float = 0.02
    large_input: float = 25.0
    small_input: float = 1e-4
    shifted_input: float = 5.0
    logits: float = 36.0
    high_update: float = 0.5
    low_update: float = 5e-5
    rise: float = 0.02


THRESHOLDS = Thresholds()


class Verdict(NamedTuple):
    """One thing that is wrong.

    Attributes:
      kind: What.
      layer: Where: the name of a layer, `[k]` behind it for step k of a scan.
      evidence: The numbers that say so.
      cause: The probable cause.
      fix: What to do.
    """

    kind: str
    layer: str
    evidence: str
    cause: str
    fix: str


class _Step(NamedTuple):
    """One layer at one step of the scans around it, all numbers plain."""

    name: str
    wiring: Layer
    depth: int
    is_last: bool
    numbers: LayerStatistics


def judge(statistics: Statistics) -> tuple[Verdict, ...]:
    """Judge measured statistics.

    Args:
      statistics: What `statistics` returned, as NumPy arrays.

    Returns:
      The verdicts, the worst first; within a kind and over the steps of a scan the first to
      show it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxopt_tut.diagnostics.statistics import statistics
      >>> from jaxopt_tut.models import mlp
      >>> params = mlp.init(jax.random.key(0), (8, 64, 64, 4))
      >>> x = 300.0 * jax.random.normal(jax.random.key(1), (32, 8))
      >>> def loss_fn(params, x):
      ...     return jnp.mean(mlp.apply(params, x) ** 2)
      >>> measured = jax.jit(statistics, static_argnums=0)(loss_fn, params, x)
      >>> judge(jax.device_get(measured))[0].kind
      'input_not_normalized'
    """
    steps = list(_steps(statistics))
    broken = _non_finite(steps, statistics)
    if broken is not None:
        return (broken,)  # NaN makes all other numbers meaningless
    verdicts = [
        *_inputs(steps),
        *_forward(steps),
        *_backward(steps),
        *_symmetric(steps),
        *_dead(steps),
        *_saturated(steps),
        *_collapse(steps),
        *_logits(steps),
        *_learning_rate(steps, statistics),
    ]
    first = {(verdict.kind, verdict.layer.split("[")[0]): verdict for verdict in verdicts[::-1]}
    kept = [verdict for verdict in verdicts if verdict in first.values()]
    return tuple(sorted(kept, key=lambda verdict: ORDER.index(verdict.kind)))


def _steps(statistics: Statistics) -> Iterator[_Step]:
    """Take the layers apart into the steps of the scans around them."""
    scanned, added, before = (), 0, 0
    for layer in statistics.wiring:
        numbers = statistics.layers[layer.name]
        lengths = np.shape(numbers.correlation)
        if lengths != scanned:  # another scan, or none: what came before is that much deeper
            before, added, scanned = before + added, math.prod(lengths) - 1, lengths
        for k, index in enumerate(np.ndindex(*lengths)):
            name = layer.name + (f"[{','.join(map(str, index))}]" if index else "")
            of_weights = index[: layer.num_weight_steps]
            at = {
                field: jax.tree.map(
                    partial(_at, index=of_weights if field in _OF_WEIGHTS else index), value
                )
                for field, value in numbers._asdict().items()
            }
            is_last = layer.is_last and k == math.prod(lengths) - 1
            yield _Step(name, layer, layer.depth + before + k, is_last, LayerStatistics(**at))


_OF_WEIGHTS = {
    "weights", "weight_gradients", "distinct_gradients", "active_gradients", "update_ratio",
}  # fmt: skip


def _at(array, index):
    return np.asarray(array)[index]


def _mean_square(summary: Summary) -> float:
    return float(summary.variance + summary.mean**2)


def _non_finite(steps: Sequence[_Step], statistics: Statistics) -> Verdict | None:
    places = [
        (one.name, what, getattr(one.numbers, field))
        for field, what, order in (
            ("weights", "weights", steps),
            ("inputs", "inputs", steps),
            ("pre_activations", "pre-activations", steps),
            ("activations", "activations", steps),
            ("cotangents", "cotangents", steps[::-1]),
            ("weight_gradients", "weight gradients", steps[::-1]),
        )
        for one in order
    ]
    evidence = "" if np.isfinite(statistics.loss) else "all layers are finite, the loss is not"
    layer = steps[-1].name
    for name, what, summary in places:
        if summary is not None and summary.fraction_nonfinite > 0:
            evidence = f"{summary.fraction_nonfinite:.1%} of the {what} are NaN or infinite"
            layer = name
            break
    if not evidence:
        return None
    return Verdict(
        "non_finite",
        layer,
        evidence,
        "an overflow, a division by zero or the logarithm of zero at or before this place",
        "find the operation with diagnostics.first_nonfinite, in the backward pass with "
        "gradient=True",
    )


def _inputs(steps: Sequence[_Step]) -> Iterator[Verdict]:
    for one in steps:
        summary = one.numbers.inputs
        if not one.wiring.is_first or summary is None:
            continue
        size, spread = _mean_square(summary), math.sqrt(summary.variance)
        # One-hot vectors are small and sparse, and should be.
        is_small = 0 < size < THRESHOLDS.small_input and summary.fraction_zero < 0.9
        is_shifted = size > 1 and abs(summary.mean) > THRESHOLDS.shifted_input * spread
        if size > THRESHOLDS.large_input or is_small or is_shifted:
            yield Verdict(
                "input_not_normalized",
                one.name,
                f"inputs have mean {summary.mean:.3g} and standard deviation {spread:.3g}",
                "the data come in units of their own, initializers count on mean 0 and variance 1",
                f"feed (x - {summary.mean:.3g}) / {spread:.3g}, with mean and deviation of the "
                "training set",
            )


def _forward(steps: Sequence[_Step]) -> Iterator[Verdict]:
    sizes = [
        _mean_square(one.numbers.inputs)
        for one in steps
        if one.wiring.is_first and one.numbers.inputs is not None
    ]
    size = max(sizes, default=1.0) or 1.0
    high = THRESHOLDS.exploding * max(size, 1.0)
    for one in steps:
        weights, inputs = one.numbers.weights, one.numbers.inputs
        # Weights that are all zero are meant: a branch that starts switched off.
        if one.wiring.is_normalized or weights.fraction_zero == 1:
            continue
        low = THRESHOLDS.vanishing * min(size, 1.0) / one.depth
        variance = float(one.numbers.pre_activations.variance)
        # A recurrent weight reads a state of zeros at first.
        if variance == 0 and one.wiring.num_step_axes > one.wiring.num_weight_steps:
            continue
        read = 0.0 if inputs is None else _mean_square(inputs)
        factor = variance / read if read else 1.0
        is_high = variance > high or factor > THRESHOLDS.exploding
        if not is_high and variance >= low and factor >= THRESHOLDS.small_factor:
            continue
        is_own = not 2 * THRESHOLDS.small_factor <= factor <= 8
        direction = "large" if is_high else "small"
        fan_in = one.wiring.fan_in
        yield Verdict(
            "exploding" if is_high else "vanishing",
            one.name,
            f"pre-activations have variance {variance:.3g} at depth {one.depth}, healthy is "
            f"{low:.2g} to {high:.2g}; that is {factor:.3g} times the mean square of the input",
            f"weights of standard deviation {math.sqrt(_mean_square(weights)):.3g} are too "
            f"{direction} for a fan-in of {fan_in}"
            if is_own
            else f"a factor a layer that is a little too {direction} adds up over the depth",
            f"draw the weights with {_initializer(one)}, standard deviation "
            f"{math.sqrt(_gain(one) / fan_in):.3g}; or set all scales with calibration.auto_init",
        )


def _gain(one: _Step) -> float:
    """Return the fan-in times the variance of the weights that suits what the layer reads."""
    inputs = one.numbers.inputs
    return 2.0 if inputs is not None and 0.2 < inputs.fraction_zero < 0.9 else 1.0


def _initializer(one: _Step) -> str:
    name = "kaiming_normal()" if _gain(one) == 2.0 else "equal_variance()"
    return f"initializers.{name}"


def _backward(steps: Sequence[_Step]) -> Iterator[Verdict]:
    def total(one):
        shape = one.wiring.pre_activation.shape[one.wiring.num_step_axes :]
        return _mean_square(one.numbers.cotangents) * math.prod(shape)

    ends = [one for one in steps if one.is_last]
    reference = max((total(one) for one in ends), default=0.0)
    depth = max((one.depth for one in ends), default=0)
    for one in reversed(steps):
        share = total(one) / reference if reference else 0.0
        if one.wiring.is_normalized or one.is_last or share == 0:
            continue
        bound = THRESHOLDS.backward ** max(1.0, (depth - one.depth) / 10)
        if 1 / bound <= share <= bound:
            continue
        yield Verdict(
            "vanishing" if share < 1 else "exploding",
            one.name,
            f"its squared cotangents sum to {share:.2g} of those of the last layer, at depth "
            f"{depth}; healthy is {1 / bound:.0e} to {bound:.0e}",
            "on the way back the slopes of the activations and the weights multiply to "
            f"{'less' if share < 1 else 'more'} than one a layer",
            "put the network on the edge of chaos with initializers.critical; or add residual "
            "connections or normalisation",
        )


def _symmetric(steps: Sequence[_Step]) -> Iterator[Verdict]:
    for one in steps:
        active, distinct = int(one.numbers.active_gradients), int(one.numbers.distinct_gradients)
        if active >= 2 and distinct <= max(1, THRESHOLDS.symmetric * active):
            yield Verdict(
                "symmetric",
                one.name,
                f"the gradients of {active} units take {distinct} distinct "
                f"value{'s' if distinct > 1 else ''}",
                "units that start equal get equal gradients and stay equal",
                f"draw the weights at random, with {_initializer(one)} for instance",
            )


def _dead(steps: Sequence[_Step]) -> Iterator[Verdict]:
    for one in steps:
        dead, expected = float(one.numbers.fraction_dead), _expected_dead(one)
        if dead <= min(expected + THRESHOLDS.dead_above_prediction, 0.99):
            continue
        summary = one.numbers.pre_activations
        yield Verdict(
            "dead",
            one.name,
            f"{dead:.0%} of the units are zero for the whole batch, theory expects "
            f"{expected:.0%}; pre-activations have mean {summary.mean:.3g} and standard deviation "
            f"{math.sqrt(summary.variance):.3g}",
            "biases far below zero, or a step that was too large earlier in training",
            "start biases at 0; lower the learning rate, or use an activation with a slope on the "
            "left, such as jax.nn.leaky_relu",
        )


def _expected_dead(one: _Step) -> float:
    """Integrate over what the examples share: see the module."""
    site = one.wiring.pre_activation
    n = math.prod(site.shape[axis] for axis in site.batch_axes)
    c = float(one.numbers.correlation)
    if one.wiring.bend.kind == "norm" or math.isnan(c):
        c = 0.0
    c = min(max(c, 0.0), 1 - 1e-9)
    t, weights = hermegauss(60)
    off = np.array([0.5 * math.erfc(x * math.sqrt(c / (1 - c) / 2)) for x in t])
    return float(weights @ off**n / weights.sum())


def _saturated(steps: Sequence[_Step]) -> Iterator[Verdict]:
    for one in steps:
        saturated = float(one.numbers.fraction_saturated)
        if saturated > THRESHOLDS.saturated:
            spread = math.sqrt(_mean_square(one.numbers.pre_activations))
            yield Verdict(
                "saturated",
                one.name,
                f"{saturated:.0%} of the activations have a slope below 0.05; pre-activations have "
                f"root mean square {spread:.3g}",
                "the weights are too large for an activation that is bounded",
                f"multiply the weights by {1 / spread:.2g}, or draw them with {_initializer(one)}",
            )


def _collapse(steps: Sequence[_Step]) -> Iterator[Verdict]:
    for one in steps:
        c = float(one.numbers.correlation)
        if one.wiring.is_normalized or math.isnan(c):
            continue
        predicted = 9 * math.pi**2 / (2 * one.depth**2)
        if 1 - c < min(THRESHOLDS.collapse, predicted / 10):
            yield Verdict(
                "rank_collapse",
                one.name,
                f"two examples differ by 1 - c = {1 - c:.2g} in correlation c; a network on the "
                f"edge of chaos has {min(predicted, 1):.2g} left at depth {one.depth}",
                "the weights are in the ordered phase, or biases outweigh them: all inputs become "
                "one",
                "put the network on the edge of chaos with initializers.critical, or start biases "
                "at 0",
            )


def _logits(steps: Sequence[_Step]) -> Iterator[Verdict]:
    for one in steps:
        variance = float(one.numbers.pre_activations.variance)
        if one.is_last and variance > THRESHOLDS.logits:
            spread = math.sqrt(variance)
            yield Verdict(
                "logits_too_large",
                one.name,
                f"outputs have standard deviation {spread:.3g}",
                "the last layer, or all before it, is scaled up: a softmax starts certain and "
                "wrong",
                f"divide the weights of the last layer by {spread:.2g}",
            )


def _learning_rate(steps: Sequence[_Step], statistics: Statistics) -> Iterator[Verdict]:
    known = [one for one in steps if np.isfinite(one.numbers.update_ratio)]
    if not known:
        return
    one = max(known, key=lambda one: float(one.numbers.update_ratio))
    ratio = float(one.numbers.update_ratio)
    text = f"the update is {ratio:.2g} of the weight, usual are 1e-3 to 1e-2"
    if ratio < THRESHOLDS.low_update:
        yield Verdict(
            "lr_too_low",
            one.name,
            text,
            "the learning rate is too small for the sizes of weights and gradients",
            f"multiply the learning rate by {10 ** round(math.log10(1e-3 / ratio)):g}"
            if ratio
            else "find out what makes the gradients zero",
        )
    before, after = float(statistics.loss), float(statistics.loss_after_update)
    does_rise = not after <= before + THRESHOLDS.rise * abs(before)
    if ratio > THRESHOLDS.high_update or does_rise:
        yield Verdict(
            "lr_too_high",
            one.name,
            f"{text}; one step takes the loss of its own batch from {before:.3g} to {after:.3g}, "
            f"where the gradient promised {before + float(statistics.expected_change):.3g}",
            "the step is longer than the gradient can be trusted",
            "divide the learning rate by 10, or warm it up",
        )
