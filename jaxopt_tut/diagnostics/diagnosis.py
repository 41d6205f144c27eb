"""What is wrong with a network on a batch, per layer, with cause and fix."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxopt_tut.blocks import shown
from jaxopt_tut.diagnostics.judging.judge import judge
from jaxopt_tut.diagnostics.judging.learning_rate import hardly_moves
from jaxopt_tut.diagnostics.judging.verdicts import Verdict
from jaxopt_tut.diagnostics.measuring.one_pass import measure
from jaxopt_tut.diagnostics.measuring.results import LayerStatistics, Statistics
from jaxopt_tut.diagnostics.measuring.stacking import Measured
from jaxopt_tut.diagnostics.nonfinite.search import first_nonfinite
from jaxopt_tut.diagnostics.showing import diagnosis_block
from jaxopt_tut.loss_forms import Bound, bind_given
from jaxopt_tut.taps import Site
from jaxopt_tut.trees import Rebuild, split_arrays
from jaxopt_tut.types import Batch, LossFn, Optimizer, Params, PRNGKey, PyTree


@shown
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` finds.

    Attributes:
      layers: The statistics of each layer, by name and in the order of the program.
      verdicts: What is wrong, the worst first; empty for a healthy network.
      statistics: What the verdicts were read from.
    """

    layers: dict[str, LayerStatistics]
    statistics: Statistics
    verdicts: tuple[Verdict, ...] = field(metadata={"static": True})

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the verdicts and the layers."""
        return diagnosis_block(self)

    @property
    def worst(self) -> Verdict | None:
        """The verdict to act on first, None if there is none."""
        return self.verdicts[0] if self.verdicts else None


def diagnose(
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    optimizer: Optimizer | None = None,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
) -> Diagnosis:
    r"""Say what is wrong with a network on a batch, where, why, and what to do.

    $$\mathrm{verdicts} = \{(k, l) : s_{kl} \notin [\,\mathrm{low}_k(l),\, \mathrm{high}_k(l)\,]\}$$

    with the statistics $s$ of `statistics` and thresholds that follow the mean-field prediction
    for the depth $l$ of the layer (see `diagnostics.judging.thresholds`). For models of flax nnx
    (through `nnx.split` and `nnx.merge(..., copy=True)`), flax linen, equinox and plain functions.
    It is meant for the start of training and for its course; whether units are dead is a matter of
    the data seen, so hand in four training batches at once. Compiled once for each `loss_fn`,
    `optimizer` and shapes: define these outside of loops. After that it costs one to three
    gradients, the fewer the larger the batch; where the loss or a gradient is not finite, also
    what `first_nonfinite` costs.

    Args:
      loss_fn: `loss_fn(params, batch)` returns a scalar or a pair `(scalar, aux)`; where they are
        given it takes a key, `(params, batch, key)`, and a state behind, as in `fit`.
      params: The parameters, or any model that `fit` takes; what is no parameter is held fixed.
      batch: At least two examples along the first axis of its arrays.
      optimizer: Judge its first step too. One that hardly moves at first (a warm-up from 0, an
        accumulation, a rate that tunes itself) is followed for up to 64 steps on this batch. Its
        update is handed the parameters, and by keyword what it takes of `value`, `grad`,
        `value_fn`, `grad_fn` and `obj_fn`.
      key: For a loss that draws, such as one with dropout.
      model_state: For a loss that is handed a state, such as running averages.

    Returns:
      Statistics and verdicts; `report` makes text of them.

    Raises:
      TypeError: If `loss_fn` cannot be traced, a parameter is an integer array, or the optimizer
        needs more than that.
      ValueError: If no weight meets data, the batch holds fewer than two examples, or the loss is
        no real scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.initializers import constant
      >>> from jaxopt_tut.models import mlp
      >>> def loss_fn(params, x):
      ...     return jnp.mean((mlp.apply(params, x) - 1) ** 2)
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> params = mlp.init(jax.random.key(1), (8, 16, 16, 4), kernel_init=constant(0.1))
      >>> worst = diagnose(loss_fn, params, x).worst
      >>> worst.kind, worst.layer
      ('symmetric', '0/kernel')

    References:
      Glorot, Bengio (2010), section 4, for activations and gradients per layer.
      https://proceedings.mlr.press/v9/glorot10a.html
    """
    if callable(optimizer):
        name = getattr(optimizer, "__name__", "it")
        raise TypeError(f"diagnose needs an optimizer, got a function: call {name}(...).")
    given = {"key": key, "model_state": model_state}
    bound = bind_given("diagnose", loss_fn, params, batch, **given)
    arrays, rebuild = split_arrays(bound.params)
    frame = _Frame(bound.loss_fn, rebuild, optimizer, 1)
    # what is measured broadcasts where the caller's settings may refuse to
    with jax.numpy_rank_promotion("allow"):
        measured = jax.device_get(_measure(frame, arrays, bound.batch)).unpack()
        if hardly_moves(measured):  # at first, or for good?
            frame = frame._replace(num_updates=MANY_UPDATES)
            measured = jax.device_get(_measure(frame, arrays, bound.batch)).unpack()
    verdicts = judge(measured)
    if not measured.is_finite:
        site = first_nonfinite(*bound.by_argument, gradient=True)
        verdicts = tuple(_located(verdict, site, measured) for verdict in verdicts)
    return Diagnosis(dict(measured.layers), measured, verdicts)


def _located(verdict: Verdict, site: Site | None, measured: Statistics) -> Verdict:
    """Say where it begins, by the layer if it belongs to one."""
    if site is None:  # a compiled program keeps more digits inside, or fewer
        return verdict
    layers = [one.name for one in measured.wiring if site.param in (one.param, one.name)]
    if site.op == "input":
        cause = f"{site.name!r}, which the loss is given, holds NaN or infinities"
        fix = "take them out of the data, or go back to parameters that are finite"
    else:
        cause = (
            f"the operation {site.op} at {site.name!r}, or its derivative, is the first that is "
            "not finite and does harm: an overflow, a division by zero, the logarithm of zero, a "
            "root or a norm at zero"
        )
        fix = (
            "keep what it reads away from there, with a jnp.where before the operation as well as "
            "behind it; or look at it with diagnostics.first_nonfinite"
        )
    if verdict.layer.split("[")[0] not in layers:  # else the step of a scan is known
        verdict = verdict._replace(layer=next(iter(layers), verdict.layer))
    return verdict._replace(cause=cause, fix=fix)


class _Frame(NamedTuple):
    """All that is not an array, so that compiled programs are found again by it."""

    loss_fn: LossFn
    rebuild: Rebuild
    optimizer: Optimizer | None
    num_updates: int


MANY_UPDATES = 64
"""How many steps to wait for an optimizer that hardly moves: accumulation over as many batches is
rare, and an average that forgets 2 % a step has settled."""


@partial(jax.jit, static_argnums=0)
def _measure(frame: _Frame, arrays: list[Any], batch: Batch) -> Measured:
    bound = Bound(frame.loss_fn, frame.rebuild(arrays), batch)
    return measure("diagnose", bound, frame.optimizer, frame.num_updates)
