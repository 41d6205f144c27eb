"""Metrics over a whole data set, in compiled chunks."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.datasets import Dataset
from jaxopt_tut.training.data import DeviceData, device_data, num_examples, take
from jaxopt_tut.types import Batch, Params, PyTree


def evaluator(
    metrics_fn: Callable[..., dict[str, Float[Array, ""]]],
    dataset: Dataset | PyTree,
    *,
    batch_size: int = 1000,
) -> Callable[..., dict[str, float]]:
    r"""Build a function that averages metrics over every example of a data set.

    $$\bar m = \sum_k \frac{n_k}{n} m(\theta, B_k)$$

    with $B_k$ the consecutive batches and $n_k$ their sizes; the last may be smaller. Two
    programs are compiled at most, one a batch shape; the data are their argument.

    Args:
      metrics_fn: `(params, batch) -> {name: scalar}`, each a mean over the batch; it also gets
        `model_state` as a third argument when the evaluator is called with one.
      dataset: The examples: a `Dataset` (its `train` split; normalised with its mean and std) or a
        tree of arrays with a common first axis.
      batch_size: Examples per call.

    Returns:
      `evaluate(params, model_state=None) -> {name: float}`.

    Raises:
      ValueError: If `batch_size` is not positive or the arrays' first axes differ.

    Example:
      >>> examples = jnp.arange(5.0)
      >>> evaluate = evaluator(lambda p, x: {"mean": jnp.mean(p * x)}, examples, batch_size=2)
      >>> evaluate(jnp.array(10.0))
      {'mean': 20.0}
    """
    if batch_size < 1:
        raise ValueError(f"evaluator needs batch_size >= 1, got batch_size={batch_size}.")
    data = device_data(dataset, "evaluator")
    size = num_examples(data)

    def evaluate(params: Params, model_state: PyTree = None) -> dict[str, float]:
        totals: dict[str, Array] = {}
        for start in range(0, size, batch_size):
            count = min(batch_size, size - start)
            sums = _batch_sums(params, model_state, data, start, metrics_fn, count)
            totals = {name: totals.get(name, 0.0) + value for name, value in sums.items()}
        return {name: float(value) / size for name, value in totals.items()}

    return evaluate


@partial(jax.jit, static_argnames=("metrics_fn", "count"))
def _batch_sums(
    params: Params,
    model_state: PyTree,
    data: DeviceData,
    start: int,
    metrics_fn: Callable[..., dict[str, Array]],
    count: int,
) -> dict[str, Array]:
    """Return the metrics of one batch times its size."""
    batch: Batch = take(data, start + jnp.arange(count))
    args = (params, batch) if model_state is None else (params, batch, model_state)
    return {name: value * count for name, value in metrics_fn(*args).items()}
