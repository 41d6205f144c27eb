"""What is dear to know of a layer: exact quantiles and the effective rank."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Shaped
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.diagnostics.measuring.network import read_network
from jaxopt_tut.diagnostics.measuring.readings import read_layers
from jaxopt_tut.diagnostics.measuring.summaries import Real, real
from jaxopt_tut.loss_forms import bind_given
from jaxopt_tut.taps import Tape
from jaxopt_tut.types import Batch, LossFn, Params, PRNGKey, PyTree, Scalar
from jaxopt_tut.vectors import matmul, safe_ratio

Quantiles = TypeAliasType("Quantiles", Float[Array, "*step quantile"])
"""Quantiles of an array for each step of the scans around a layer."""


@shown
class ExactStatistics(NamedTuple):
    """What `exact_statistics` finds of a layer; inside scans one leading axis a scan.

    Attributes:
      weights: Their quantiles.
      pre_activations: Their quantiles.
      activations: Their quantiles; those of the pre-activations where no nonlinearity follows.
      cotangents: Quantiles of those of the pre-activations.
      weight_gradients: Their quantiles.
      effective_rank: Of the pre-activations, by `effective_rank`.
    """

    weights: Quantiles
    pre_activations: Quantiles
    activations: Quantiles
    cotangents: Quantiles
    weight_gradients: Quantiles
    effective_rank: Real


def exact_statistics(
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    quantiles: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    key: PRNGKey | None = None,
    model_state: PyTree = None,
) -> Tape:
    r"""Compute exact quantiles and the effective rank of every layer.

    $$Q(q) = x_{(q (n - 1))}, \qquad
      r = \frac{(\operatorname{tr} G)^2}{\operatorname{tr} G^2}, \quad G = Z Z^\top$$

    with $x_{(k)}$ the values in order, linear in between, and the pre-activations $Z$, one row an
    example. Where the histograms of `diagnose` do not resolve the tails, or to see examples become
    one: $r$ is 1 then. Sorts every array, and multiplies each Z by itself: several times the cost
    of `statistics`. Use it inside `jit`.

    Args:
      loss_fn: `loss_fn(params, batch)` returns a scalar or a pair `(scalar, aux)`; where they are
        given it takes a key, `(params, batch, key)`, and a state behind, as in `fit`.
      params: The parameters, or any model; what is no parameter is held fixed.
      batch: At least two examples along the first axis of its arrays.
      quantiles: The fractions $0 \le q \le 1$.
      key: For a loss that draws, such as one with dropout.
      model_state: For a loss that is handed a state, such as running averages.

    Returns:
      An `ExactStatistics` for each layer, by name and in the order of the program.

    Raises:
      TypeError: If `loss_fn` cannot be traced, or a parameter is an integer array.
      ValueError: If a quantile is no fraction, no weight meets data, the batch holds fewer than
        two examples, or the loss is no real scalar.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
      >>> found = exact_statistics(lambda w, x: jnp.sum(x @ w), 2 * jnp.eye(2), x)
      >>> layer, = found.values()
      >>> layer.pre_activations.tolist(), round(float(layer.effective_rank), 3)
      ([0.0, 0.0, 1.0, 2.0, 2.0], 1.8)

    References:
      Gao, Ganguli (2015), eq. 5, for the participation ratio.
      https://doi.org/10.1016/j.conb.2015.04.003
    """
    for q in quantiles:
        if not 0 <= q <= 1:
            raise ValueError(f"exact_statistics needs quantiles 0 <= q <= 1, got {q}.")
    given = {"key": key, "model_state": model_state}
    bound = bind_given("exact_statistics", loss_fn, params, batch, **given)
    readings = read_layers(read_network("exact_statistics", bound)).layers

    def of(values: Shaped[Array, "..."], num_steps: int) -> Quantiles:
        rows = real(values).reshape(*values.shape[:num_steps], -1)
        fractions = jnp.asarray(quantiles, rows.dtype)
        return jnp.moveaxis(jnp.quantile(rows, fractions, axis=-1), 0, -1)

    def rank(values: Inexact[Array, "..."], num_steps: int, examples: tuple[int, ...]) -> Real:
        if num_steps:
            inner = tuple(axis - 1 for axis in examples)
            return jax.vmap(lambda part: rank(part, num_steps - 1, inner))(values)
        rows = jnp.moveaxis(values, examples, range(len(examples)))
        return effective_rank(rows.reshape(math.prod(rows.shape[: len(examples)]), -1))

    layers = {}
    for one in readings:
        steps, weight_steps = one.layer.num_step_axes, one.layer.num_weight_steps
        value, bent = one.activity.pre_activation, one.activity.activation
        layers[one.layer.name] = ExactStatistics(
            of(one.weight, weight_steps),
            of(value, steps),
            of(value if bent is None else bent, steps),
            of(one.cotangent, steps),
            of(one.gradient, weight_steps),
            rank(value, steps, one.axes.examples),
        )
    return Tape(layers)


def effective_rank(values: Inexact[Array, "example unit"]) -> Scalar:
    r"""Count the directions that examples take: the participation ratio of their Gram matrix.

    $$r = \frac{(\sum_i \lambda_i)^2}{\sum_i \lambda_i^2}
      = \frac{(\operatorname{tr} G)^2}{\lVert G \rVert_F^2}, \qquad G = X X^\top$$

    It is n for n orthogonal examples of equal size, 1 if all are multiples of one. The smaller of
    $X X^\top$ and $X^\top X$ is formed, no eigenvalue is computed.

    Args:
      values: The examples X.

    Returns:
      The ratio, between 1 and the rank; 0 if all values are zero.

    Example:
      >>> round(float(effective_rank(jnp.diag(jnp.array([1.0, 1.0, 0.5])))), 3)
      2.455

    References:
      Gao, Ganguli (2015), eq. 5. https://doi.org/10.1016/j.conb.2015.04.003
    """
    if not jnp.iscomplexobj(values):
        values = real(values)
    largest = jnp.max(jnp.abs(values))
    # Fourth powers of small or large values would leave single precision.
    scaled = values / jnp.where(largest > 0, largest, 1)
    rows = scaled if values.shape[0] <= values.shape[1] else scaled.T
    gram = matmul(rows, rows.conj().T)
    square = jnp.sum(jnp.abs(gram) ** 2)
    trace = jnp.real(jnp.trace(gram))
    return safe_ratio(trace**2, square, where=square > 0)
