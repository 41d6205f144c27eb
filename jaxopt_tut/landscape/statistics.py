"""Running averages, such as those of BatchNorm, as they would be after endlessly many updates."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut import jaxprs
from jaxopt_tut.datasets.inner import mean_over, read_chunks
from jaxopt_tut.landscape.stateful import State, StatefulLoss, open_stateful
from jaxopt_tut.loss_forms import with_batch
from jaxopt_tut.types import Batch, LossFn, Params, PRNGKey, PyTree

_FAR = 1024.0
"""An old value beside which the statistics of a batch round to little: see `_fixed_point`."""


def reestimate_statistics(
    loss_fn: LossFn,
    params: PyTree,
    *batches: Any,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
    batch_size: int | None = None,
) -> PyTree:
    r"""Compute the running averages that a model would have after endlessly many updates.

    $$s' = a s + (1 - a) b \quad\Rightarrow\quad s^* = \frac{\sum_k n_k (1 - a) b_k}
      {(1 - a) \sum_k n_k}$$

    with $b_k$ the statistics of batch k of $n_k$ examples. Nobody has to say what the momentum a
    is: the update is affine in the old value s, so that two values show it. An average is what the
    loss only writes: a floating array whose old value is in its new one and in nothing else that
    the loss returns, and whose update is affine. All else stays: counters, keys, and states that
    steer the loss, as those of spectral norms. (In a `State` of equinox the count of updates is
    set to a large one, for averages are divided by what has been averaged until then.)

    Needed wherever weights are changed by hand: along slices and paths, for averages of weights,
    behind pruning. Variances are the mean of those of the batches, as in the running average; for
    those of all examples hand over one batch. Costs one pass over the data, forward alone.

    Args:
      loss_fn: The loss as in training, in any form that `fit` takes. Modules of flax nnx and
        equinox are set to training; of flax linen, and of functions of your own, the loss has to
        be that of the training, which returns `(loss, Aux(metrics, model_state))`.
      params: The model, or its parameters.
      *batches: The data: arrays, a `Dataset`, several batches, or an iterable on the host.
      key: For a loss that draws.
      model_state: The state, if it is no part of the model.
      batch_size: How many examples are normalised together; None for all of a batch.

    Returns:
      The new `model_state` if one was handed over, else the model with new averages.

    Raises:
      ValueError: If there are no averages, or the loss returns no new state.
      TypeError: If the loss cannot be called so.

    Example:
      >>> from jaxopt_tut.training import Aux
      >>> def loss_fn(w, x, state):
      ...     mean = jnp.mean(x)
      ...     return w * mean, Aux(model_state={"mean": 0.9 * state["mean"] + 0.1 * mean})
      >>> state = {"mean": jnp.array(100.0)}
      >>> x = jnp.array([1.0, 2.0, 6.0])
      >>> print(f"{reestimate_statistics(loss_fn, 1.0, x, model_state=state)['mean']:.4f}")
      3.0000

    References:
      Izmailov, Podoprikhin, Garipov, Vetrov and Wilson (2018), Averaging weights leads to wider
      optima, section 3, https://arxiv.org/abs/1803.05407, who pass over the data once more.
    """
    caller = "reestimate_statistics"
    loss_fn = with_batch(loss_fn, batches)
    opened = open_stateful(caller, loss_fn, params, key=key, model_state=model_state)
    chunks = read_chunks(caller, batches, batch_size)
    update = Update(opened.bind(loss_fn, True if opened.has_modes else None))
    measured = mean_over(chunks, update, opened.trained, opened.state, key)
    if not any(measured.found.averages):
        raise ValueError(no_averages(caller))
    new = renewed(opened.state, measured)
    return opened.put_back(new) if model_state is None else new.own


def no_averages(caller: str) -> str:
    """Say that there is nothing to be re-estimated."""
    return (
        f"{caller} needs a loss with running averages, which it renews in training and does not "
        "read there, got one without."
    )


@jax.tree_util.register_static
@dataclass(frozen=True)
class Found:
    """What the leaves of a state are for."""

    averages: tuple[bool, ...]
    counts: tuple[bool, ...]
    """Of the updates that averages are made of: they divide what equinox keeps."""


class Measured(NamedTuple):
    """What becomes of running averages that were 0, half far, and far."""

    after: tuple[Array, ...]
    """Of the averages alone, with a leading axis of three."""
    found: Found


@dataclass(frozen=True)
class Update:
    """One update of running averages, as a function of a batch for `mean_over`."""

    loss: StatefulLoss
    advice: str = ""
    """How else, in the message to who hands over none."""

    def __call__(self, batch: Batch, trained: Params, state: State, key: Any) -> Measured:
        """Renew averages that were 0, half far, and far."""
        leaves, structure = jax.tree.flatten(state)
        found = self._read(batch, trained, state, key)

        def after(old: Array) -> list[Array]:
            put = [
                jnp.full_like(leaf, 1) * old.astype(leaf.dtype) if is_average else leaf
                for leaf, is_average in zip(leaves, found.averages, strict=True)
            ]
            new = self.loss(trained, batch, structure.unflatten(put), key).state
            pairs = zip(jax.tree.leaves(new), found.averages, strict=True)
            return [jnp.asarray(leaf) for leaf, is_average in pairs if is_average]

        if not any(found.averages):
            return Measured((), found)
        # what an average only writes has no part in the rest: that is computed once for all three
        return Measured(tuple(jax.vmap(after)(jnp.array([0.0, _FAR / 2, _FAR]))), found)

    def _read(self, batch: Batch, trained: Params, state: State, key: Any) -> Found:
        """Find the leaves whose old value is in their new one and in nothing else."""
        leaves, structure = jax.tree.flatten(state)

        def update(leaves: list[Any]) -> Any:
            out = self.loss(trained, batch, structure.unflatten(leaves), key)
            if out.state is None:
                raise ValueError(
                    f"{self.loss.caller} re-estimates running averages by what a loss in training "
                    "returns, (loss, Aux(metrics, model_state)), got a loss that returns none: "
                    f"hand over that of the training{self.advice}."
                )
            return jax.tree.leaves(out.state), (out.loss, out.metrics)

        program = jaxprs.open_jaxpr(jax.make_jaxpr(update)(leaves))
        reached = jaxprs.reach(program)
        count = len(leaves)
        changed = [
            new is not old for new, old in zip(program.outvars[:count], program.invars, strict=True)
        ]
        only_written = [
            changed[i] and not any(i in one for j, one in enumerate(reached) if j != i)
            for i in range(count)
        ]
        has_kind = lambda leaf, kind: jnp.issubdtype(jnp.result_type(leaf), kind)
        is_counted = _is_of_equinox(state.own)
        return Found(
            tuple(
                flag and has_kind(leaf, jnp.inexact)
                for flag, leaf in zip(only_written, leaves, strict=True)
            ),
            tuple(
                is_counted and flag and has_kind(leaf, jnp.integer)
                for flag, leaf in zip(only_written, leaves, strict=True)
            ),
        )


def _is_of_equinox(state: Any) -> bool:
    return type(state).__name__ == "State" and type(state).__module__.startswith("equinox.")


def renewed(state: State, measured: Measured) -> State:
    """Put the averages of endlessly many updates into a state."""
    leaves, structure = jax.tree.flatten(state)
    after = iter(measured.after)
    found = zip(leaves, measured.found.averages, measured.found.counts, strict=True)
    new = [
        _fixed_point(leaf, next(after)) if is_average else _many(leaf) if is_count else leaf
        for leaf, is_average, is_count in found
    ]
    return structure.unflatten(new)


def _fixed_point(old: Array, after: Array) -> Array:
    r"""Return the s with $s = a s + c$, of what becomes of three old values; else the old value.

    Old values that are far apart show a to its last digit, whatever the statistics are.
    """
    at_zero, at_half, at_far = after
    eps = jnp.finfo(at_zero.dtype).eps
    kept = (at_far - at_zero) / jnp.asarray(_FAR, at_zero.dtype)
    sizes = jnp.abs(at_zero) + jnp.abs(at_half) + jnp.abs(at_far)
    defect = jnp.abs(at_far - 2 * at_half + at_zero)
    # written so that NaN counts as an average: it is one of a network that is not finite
    stays = (defect > 64 * eps * sizes) | (jnp.real(1 - kept) <= 4 * eps)
    return jnp.where(
        stays, old, (at_zero / jnp.where(stays, 1, 1 - kept)).astype(jnp.result_type(old))
    )


def _many(count: Array) -> Array:
    return jnp.full_like(count, jnp.iinfo(jnp.result_type(count)).max // 2)
