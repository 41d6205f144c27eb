"""How noisy the gradient of a batch is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import shown
from jaxopt_tut.loss_forms import bind_given
from jaxopt_tut.losses import value_part
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.types import Batch, LossFn, Params, PRNGKey, PyTree, Scalar
from jaxopt_tut.vectors import safe_ratio


@shown
class GradientNoise(NamedTuple):
    """What `gradient_noise` finds.

    Attributes:
      scale: The batch size at which noise and gradient are of equal size; infinite if no gradient
        stands out of the noise.
      trace: Of the covariance of the gradient of one example.
      squared_norm: Of the gradient without noise; an estimate, that may come out negative.
      leaves: The same three for each parameter.
    """

    scale: Scalar
    trace: Scalar
    squared_norm: Scalar
    leaves: PyTree


@shown
class LeafNoise(NamedTuple):
    """What `gradient_noise` finds of one parameter; see `GradientNoise`."""

    scale: Scalar
    trace: Scalar
    squared_norm: Scalar


def gradient_noise(
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    num_micro_batches: int,
    *,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
) -> GradientNoise:
    r"""Measure the gradient-noise ratio over micro-batches.

    $$g_i = \nabla L(\theta; B_i), \quad \bar g = \frac1k \sum_i g_i, \quad
      \widehat{\operatorname{tr} \Sigma} = \frac{b}{k - 1} \sum_i |g_i - \bar g|^2, \quad
      \widehat{|G|^2} = |\bar g|^2 - \frac{\widehat{\operatorname{tr} \Sigma}}{k b}, \quad
      \mathrm{scale} = \frac{\widehat{\operatorname{tr} \Sigma}}{\widehat{|G|^2}}$$

    for k micro-batches of b examples; both estimates are unbiased, their ratio is so for many
    micro-batches only. Batches much smaller than the scale waste steps, much larger ones waste
    examples. Says nothing of losses that join examples, as those with batch normalisation do.
    Costs one gradient of the batch, and memory for one more gradient: micro-batches go in turn.

    Args:
      loss_fn: `loss_fn(params, batch)` returns the mean over examples, or a pair `(mean, aux)`;
        where they are given it takes a key, `(params, batch, key)`, and a state behind.
      params: Floating leaves.
      batch: Arrays with the examples along their first axis.
      num_micro_batches: The number $k \ge 2$ of equal parts; it divides the number of examples.
      key: For a loss that draws, such as one with dropout; anew for each part.
      model_state: For a loss that is handed a state, such as running averages.

    Returns:
      The noise, in all and of each leaf.

    Raises:
      TypeError: If `loss_fn` cannot be called so.
      ValueError: If there are fewer than two micro-batches, or they would not be equal.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.array([1.0, 2.0, 3.0, 6.0])  # the gradients, of mean 3 and variance 14 / 3
      >>> noise = gradient_noise(lambda w, x: jnp.mean(w * x), jnp.array(1.0), x, 4)
      >>> round(float(noise.trace), 3), round(float(noise.squared_norm), 3)
      (4.667, 7.833)

    References:
      McCandlish, Kaplan, Amodei et al. (2018), eqs. 2.9 and A.2, here with k batches instead of
      two sizes. https://arxiv.org/abs/1812.06162
    """
    sizes = {
        array.shape[0] if array.shape else 0 for array in map(jnp.asarray, jax.tree.leaves(batch))
    }
    size = min(sizes, default=0)
    if num_micro_batches < 2 or len(sizes) != 1 or size == 0 or size % num_micro_batches:
        raise ValueError(
            "gradient_noise needs two or more micro-batches of equal size, got "
            f"num_micro_batches={num_micro_batches} of {sorted(sizes)} examples."
        )
    parts = jax.tree.map(
        lambda array: jnp.reshape(
            array, (num_micro_batches, size // num_micro_batches, *jnp.shape(array)[1:])
        ),
        batch,
    )

    given = {"key": key, "model_state": model_state}
    bound = bind_given("gradient_noise", loss_fn, params, batch, **given)

    def gradient(part, count):
        loss = lambda params: value_part(bound.loss_fn(params, bound.on(part, count)))
        return jax.tree.map(at_least_single, jax.grad(loss)(bound.params))

    def step(moments, part):
        # Welford's update: a difference of large sums would lose a small variance.
        count, mean, spread = moments
        new, count = gradient(part, count), count + 1
        apart = jax.tree.map(jnp.subtract, new, mean)
        mean = jax.tree.map(lambda m, d: m + d / count.astype(d.dtype), mean, apart)
        left = jax.tree.map(jnp.subtract, new, mean)
        spread = jax.tree.map(
            lambda s, d, r: s + jnp.sum(jnp.real(jnp.conj(d) * r)), spread, apart, left
        )
        return (count, mean, spread), None

    zeros = jax.tree.map(lambda leaf: at_least_single(jnp.zeros_like(leaf)), bound.params)
    spreads = jax.tree.map(lambda leaf: jnp.zeros((), jnp.real(leaf).dtype), zeros)
    start = (jnp.zeros((), jnp.int32), zeros, spreads)
    (_, mean, spread), _ = control_flow.scan(step, start, parts)
    per_example = size / num_micro_batches / (num_micro_batches - 1)
    traces = jax.tree.map(lambda s: per_example * s, spread)
    norms = jax.tree.map(lambda m, t: jnp.sum(jnp.abs(m) ** 2) - t / size, mean, traces)
    leaves = jax.tree.map(lambda t, n: LeafNoise(_ratio(t, n), t, n), traces, norms)
    trace, norm = _total(traces), _total(norms)
    return GradientNoise(_ratio(trace, norm), trace, norm, leaves)


def _total(tree: PyTree) -> Scalar:
    """Return the sum of all leaves, in the widest of their dtypes."""
    numbers = jax.tree.leaves(tree)
    widest = max((x.dtype for x in numbers), key=lambda dtype: jnp.finfo(dtype).bits)
    return jnp.sum(jnp.stack([x.astype(widest) for x in numbers]))


def _ratio(trace: Scalar, squared_norm: Scalar) -> Scalar:
    is_seen = squared_norm > 0
    return safe_ratio(trace, squared_norm, where=is_seen, otherwise=jnp.inf)
