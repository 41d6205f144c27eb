"""Metrics over a whole data set, in compiled chunks."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped
from typing_extensions import TypeAliasType

from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.splitting import Assembly, split_model
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.training.data import (
    Data,
    DeviceData,
    averaging_dtype,
    device_data,
    num_examples,
    take,
)
from jaxopt_tut.training.scalars import Count, as_count, as_metrics, check_call, require_hash
from jaxopt_tut.types import Batch, Number, Params, PyTree, Scalar

Metrics = TypeAliasType("Metrics", Callable[..., Mapping[str, Number]])
"""`(params, batch[, model_state]) -> {name: scalar}`."""

Evaluate = TypeAliasType("Evaluate", Callable[..., Mapping[str, Any]])
"""`(params[, model_state]) -> {name: number}`."""

Score = TypeAliasType("Score", Callable[[Mapping[str, float]], Any])
"""The number to be maximised, of what `evaluate` returned."""


def evaluator(
    metrics_fn: Metrics,
    dataset: Data,
    split: Literal["test", "train"] | Split = "test",
    *,
    batch_size: Count = 1000,
) -> Evaluate:
    r"""Build a function that averages metrics over every example of one part of a data set.

    $$\bar m = \sum_k \frac{n_k}{n} m(\theta, B_k)$$

    with $B_k$ the consecutive batches and $n_k$ their sizes; the last may be smaller. The sum is
    taken in double precision on the host, whatever dtype the metrics have. Two programs are
    compiled at most, one a batch shape; the data are their argument.

    Args:
      metrics_fn: `(params, batch) -> {name: scalar}`, each a mean over the batch; it also gets
        `model_state` as a third argument when the evaluator is called with one. A module of flax
        nnx is a copy: `model.eval()` in here, and what its calls change, leaves no trace.
      dataset: A `Dataset`, whose images come normalised with its mean and standard deviation; or a
        tree of arrays with a common first axis, used as it is.
      split: The part of a `Dataset`: by name, or as a `Split` of bytes such as
        `split_train_validation` returns. A tree of arrays has no parts.
      batch_size: Examples per call.

    Returns:
      `evaluate(params, model_state=None) -> {name: float}`, for any model that `fit` takes. Inside
      `jit` or `vmap` (over the members of an ensemble, say) it returns arrays, summed in single
      precision at least.

    Raises:
      TypeError: If `dataset` is a `Split` of bytes, `batch_size` no integer, `metrics_fn` no
        function of such arguments, or what it returns no dictionary of real scalars (the latter by
        the function returned).
      ValueError: If `batch_size` is not positive, there is no example, the arrays' first axes
        differ, or there is no such part.

    Example:
      >>> examples = jnp.arange(5.0)
      >>> evaluate = evaluator(lambda p, x: {"mean": jnp.mean(p * x)}, examples, batch_size=2)
      >>> evaluate(jnp.array(10.0))
      {'mean': 20.0}
    """
    return averager(metrics_fn, dataset, split, batch_size=batch_size)


def averager(
    metrics_fn: Metrics,
    dataset: Data,
    split: Literal["test", "train"] | Split = "test",
    *,
    batch_size: Count = 1000,
    names: tuple[str, str] = ("evaluator", "metrics_fn"),
) -> Evaluate:
    """Build an `evaluator` for another function: `names` are its own and that of its argument."""
    caller, name = names
    if not callable(metrics_fn):
        raise TypeError(f"{caller} needs a function as {name}, got {type(metrics_fn).__name__}.")
    require_hash(name, metrics_fn, caller)
    batch_size = as_count("evaluator", "batch_size", batch_size)
    if batch_size < 1:
        raise ValueError(f"evaluator needs batch_size >= 1, got batch_size={batch_size}.")
    if isinstance(split, str) and split not in ("test", "train"):
        raise ValueError(f"evaluator needs split 'test', 'train' or a Split, got split={split!r}.")
    if not isinstance(dataset, Dataset) and not (isinstance(split, str) and split == "test"):
        raise ValueError(
            f"evaluator needs a Dataset to take a split of, got {type(dataset).__name__}."
        )
    data = device_data(dataset, caller, split)
    size = num_examples(data)
    if not size:
        what = "" if caller == "evaluator" else " of validation"
        raise ValueError(f"{caller} needs at least one example{what}, got none.")

    def evaluate(params: Params, model_state: PyTree = None) -> dict[str, Any]:
        parts = split_model(params, caller)
        starts = range(0, size, batch_size)
        counts = [min(batch_size, size - start) for start in starts]
        means = [
            _batch_means(*parts, model_state, data, start, metrics_fn, count, names)
            for start, count in zip(starts, counts, strict=True)
        ]
        if any(map(is_traced, jax.tree.leaves(means))):
            return {name: _mean([one[name] for one in means], counts) for name in means[0]}
        # fetched after the last dispatch: nothing waits for one batch before the next is sent off
        means = jax.device_get(means)
        return {
            name: sum(n * float(one[name]) for n, one in zip(counts, means, strict=True)) / size
            for name in means[0]
        }

    # what it is called with says what `metrics_fn` is: `fit` looks before the first step
    state = inspect.Parameter("model_state", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
    takes_none, takes_one = (_takes(metrics_fn, number) for number in (2, 3))
    if not (takes_none or takes_one):
        check_call(caller, name, metrics_fn, ("params", "batch"), "")
    params = state.replace(name="params", default=inspect.Parameter.empty)
    state = state if takes_none else state.replace(default=inspect.Parameter.empty)
    vars(evaluate)["__signature__"] = inspect.Signature([params, *([state] if takes_one else [])])
    vars(evaluate)[_IS_PURE] = True
    return evaluate


_IS_PURE = "_is_pure"


def is_pure(evaluate: Evaluate) -> bool:
    """Tell whether a function may be traced to see what it returns: others may do other things."""
    function = evaluate.func if isinstance(evaluate, partial) else evaluate
    is_jitted = isinstance(function, jax.stages.Wrapped)
    # `functools.wraps` copies a mark to what is called around it, and says so
    return is_jitted or (hasattr(function, _IS_PURE) and not hasattr(function, "__wrapped__"))


def _takes(function: Callable[..., Any], number: int) -> bool:
    """Tell whether a function can be called with so many arguments."""
    try:
        check_call("evaluator", "metrics_fn", function, ("",) * number)
    except TypeError:
        return False
    return True


def _mean(values: Sequence[Shaped[Array, ""]], counts: Sequence[int]) -> Scalar:
    """Average inside a transformation, in single precision at least."""
    dtype = averaging_dtype(values[0].dtype)
    shares = np.asarray(counts, np.float64) / sum(counts)
    return jnp.sum(jnp.stack(values).astype(dtype) * shares.astype(dtype))


@partial(jax.jit, static_argnames=("assembly", "metrics_fn", "count", "names"))
def _batch_means(
    trained: Params,
    carried: PyTree,
    assembly: Assembly,
    model_state: PyTree,
    data: DeviceData,
    start: Int[Array, ""] | int,
    metrics_fn: Metrics,
    count: int,
    names: tuple[str, str],
) -> dict[str, Array]:
    """Return the metrics of one batch."""
    batch: Batch = take(data, start + jnp.arange(count))
    model = assembly.build(trained, carried)
    args = (model, batch) if model_state is None else (model, batch, model_state)
    check_call(*names, metrics_fn, ("params", "batch", "model_state")[: len(args)])
    return as_metrics(*names, metrics_fn(*args))


class DefaultScore:
    """The accuracy or minus the loss: the one that is there first, as they do not compare."""

    def __init__(self):
        """Wait for the first metrics."""
        self.name: str | None = None

    def __call__(self, metrics: Mapping[str, float]) -> float:
        """Score the metrics of an epoch."""
        self.name = self.name or next((n for n in ("accuracy", "loss") if n in metrics), None)
        if self.name is None:
            raise ValueError(
                "fit needs score= unless evaluate returns 'accuracy' or 'loss', "
                f"got the metrics {sorted(metrics)}."
            )
        value = metrics.get(self.name, math.nan)
        return value if self.name == "accuracy" else -value
