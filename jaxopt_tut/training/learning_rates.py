"""Which learning rate to begin with: the loss while the rate rises."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key, UInt32
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.keys import require_key
from jaxopt_tut.loss_forms import LOSS, read_form
from jaxopt_tut.optimizers.inner import require_optimizer, take_step
from jaxopt_tut.splitting import ModelParts
from jaxopt_tut.training.arguments import is_initializer, take_model
from jaxopt_tut.training.data import (
    AnyKey,
    Data,
    DeviceData,
    device_data,
    epoch_order,
    num_examples,
    take,
)
from jaxopt_tut.training.losses import loss_and_aux
from jaxopt_tut.training.models import ModelLoss, Packing
from jaxopt_tut.training.scalars import Count, as_count, check_call
from jaxopt_tut.trees import strong
from jaxopt_tut.types import LossFn, Optimizer, PyTree

OptimizerFactory = TypeAliasType("OptimizerFactory", Callable[[Any], Optimizer])
"""A function from the learning rate, which may be traced, to a transformation: `optax.sgd`."""

_SEEN = 256
"""Examples, at least, on which the loss is looked at."""

_WIDTH = 0.1
"""Standard deviation of the smoothing, in decades of the rate."""


_DOUBLES = (np.dtype(np.float64), np.dtype(np.complex128))


@shown
class RateRange(NamedTuple):
    """The loss while the learning rate rises, and the rate to begin with."""

    rates: Float[np.ndarray, "steps"]
    """The rate of each step."""
    losses: Float[np.ndarray, "seeds steps"]
    """The loss before each step; NaN from the first that is not finite on."""
    suggestion: float
    """The median over seeds, of an even number the geometric mean of the middle two."""
    spread: float
    """The largest suggestion of a seed over the smallest."""
    suggestions: Float[np.ndarray, "seeds"]
    """A tenth of the rate at the minimum, a seed each; NaN for one without a finite loss."""
    smoothed: Float[np.ndarray, "seeds steps"]
    """The losses, averaged over neighbouring rates."""

    @property
    def diverged(self) -> Bool[np.ndarray, "seeds"]:
        """Whether the loss at the last rate is not finite, or above that at the first."""
        return ~np.asarray(self.losses[:, -1] <= self.losses[:, 0])

    @property
    def at_edge(self) -> Bool[np.ndarray, "seeds"]:
        """Whether the minimum is at the first or the last rate: then the range should be wider."""
        ends = self.rates[[0, -1]] / 10
        return np.isin(self.suggestions, ends)

    @property
    def message(self) -> str:
        """The result in one sentence."""
        count = len(self.suggestions)
        if math.isnan(self.suggestion):
            return "No loss was finite."
        seeds = f"{count} seed{'s' if count > 1 else ''}"
        found = f"{self.suggestion:.2g} (within a factor of {self.spread:.2g} over {seeds})"
        if self.at_edge.any():
            edges = f"{self.at_edge.sum()} of {count} minima are at an end of the range of rates"
            return f"{found}, but {edges}: widen it, or take more steps."
        return f"{found}."


def find_learning_rate(
    loss_fn: LossFn,
    params: PyTree,
    optimizer_factory: OptimizerFactory,
    dataset: Data,
    *,
    batch_size: Count,
    key: AnyKey,
    seeds: Count = 5,
    num_steps: Count = 50,
    lowest: float = 1e-6,
    highest: float = 100.0,
    model_state: PyTree = None,
) -> RateRange:
    r"""Find a learning rate to begin with, by a short training in which it rises.

    $$\eta_t = \eta_{\min} (\eta_{\max} / \eta_{\min})^{t / (T - 1)}, \qquad
      \hat\eta = \tfrac{1}{10}\, \eta_{\arg\min_t \tilde L_t}$$

    with $\tilde L_t$ the loss of the parameters at step $t$ on some batches that stay the same,
    averaged over neighbouring rates by a Gaussian in $\log \eta$. Each seed is a training of its
    own, with other parameters (of an `init`), other batches and another minimum; the suggestion is
    the median.

    It is a guess within a factor of some units: a rate to start a search from, or to do without
    one. For few epochs, where the steps are too small to get far, larger rates train faster; the
    steepest slope of $\tilde L$, another usual rule, differs by decades between seeds. Costs some
    two gradients a step, `seeds * num_steps` steps, in one program; on a CPU one seed after the
    other.

    Args:
      loss_fn: A loss of any form that `fit` takes.
      params: The model, or `init(key)` that draws one, as `fit` has it.
      optimizer_factory: A function from the learning rate, which is traced, to a transformation:
        `optax.sgd`, or `lambda rate: optax.adamw(rate, weight_decay=1e-2)`.
      dataset: A `Dataset`, or a tree of arrays with a common first axis.
      batch_size: Examples a step: the rate that is found is one for batches of this size.
      key: Seed $i$ begins as `fit` does with `jax.random.fold_in(key, i)`.
      seeds: Number of trainings.
      num_steps: Steps $T$ of each. More make each rate act for longer, which finds lower ones.
      lowest: The first rate, $> 0$.
      highest: The last rate.
      model_state: The initial state of the model.

    Returns:
      Rates, losses and the suggestion; `message` says it in a sentence, and
      `plotting.plot_rate_range` draws it.

    Raises:
      TypeError: If `optimizer_factory` is no function or returns no transformation, a count is no
        integer, or the loss, the model, the data or the key are none.
      ValueError: If a count or the range of rates is out of range.

    Example:
      Gradient descent on $w^2$ converges at rates below 1 and is fastest at 1/2.

      >>> loss_fn = lambda w, batch: jnp.mean(batch * w**2)
      >>> found = find_learning_rate(loss_fn, jnp.array(1.0), optax.sgd, jnp.ones(8),
      ...                            batch_size=4, key=jax.random.key(0), seeds=2)
      >>> 0.05 < found.suggestion < 0.2, found.spread, found.diverged.tolist()
      (True, 1.0, [True, True])

    References:
      Smith (2017), Cyclical learning rates for training neural networks, section 3.3.
      https://arxiv.org/abs/1506.01186
    """
    caller = "find_learning_rate"
    _check_factory(optimizer_factory)
    data = device_data(dataset, caller)
    require_key(caller, key)
    counts = {"batch_size": batch_size, "seeds": seeds, "num_steps": num_steps}
    counts = {name: as_count(caller, name, value) for name, value in counts.items()}
    size, least = num_examples(data), {"batch_size": 1, "seeds": 1, "num_steps": 2}
    for name, value in counts.items():
        if value < least[name]:
            raise ValueError(f"{caller} needs {name} >= {least[name]}, got {name}={value}.")
    if counts["batch_size"] > size:
        raise ValueError(
            f"{caller} needs batch_size <= number of examples ({size}), "
            f"got batch_size={counts['batch_size']}."
        )
    if not 0 < lowest < highest < math.inf:
        raise ValueError(
            f"{caller} needs 0 < lowest < highest < inf, got lowest={lowest}, highest={highest}."
        )
    rates = np.geomspace(lowest, highest, counts["num_steps"])
    given = None if is_initializer(params) else take_model(caller, params)
    trained, carried = (None, None) if given is None else (given.trained, given.carried)

    def of_seed(
        seed: Any, trained: PyTree, carried: PyTree, data: DeviceData, model_state: PyTree
    ) -> Array:
        model = params if given is None else ModelParts(trained, carried, given.assembly)
        key_of_seed = jax.random.fold_in(key, seed)
        ramp = _Ramp(loss_fn, optimizer_factory, data, counts["batch_size"])
        return ramp.losses(model, model_state, key_of_seed, rates)

    def of_all(*args: Any) -> Array:
        of_one = lambda seed: of_seed(seed, *args)
        numbers = jnp.arange(counts["seeds"])
        if jax.default_backend() == "cpu":  # gains nothing by vmap, and needs less memory
            return jax.lax.map(of_one, numbers)
        return jax.vmap(of_one)(numbers)

    losses = np.asarray(jax.jit(of_all)(trained, carried, data, model_state), np.float64)
    return _rate_range(rates, losses)


def _check_factory(factory: Any) -> None:
    """Refuse a transformation where a function from the rate to one is wanted."""
    caller = "find_learning_rate"
    if not callable(factory):
        is_optimizer = isinstance(factory, optax.GradientTransformation)
        hint = ": hand over a function of the rate, such as optax.sgd" * is_optimizer
        raise TypeError(
            f"{caller} needs a function as optimizer_factory, got {type(factory).__name__}{hint}."
        )
    check_call(caller, "optimizer_factory", factory, ("learning_rate",))
    require_optimizer(caller, factory(1e-3))


class _Ramp(NamedTuple):
    """A training in which the rate rises."""

    loss_fn: LossFn
    optimizer_factory: OptimizerFactory
    data: DeviceData
    batch_size: int

    def losses(
        self,
        model: ModelParts | Callable[[AnyKey], PyTree],
        model_state: PyTree,
        key: Key[Array, ""] | UInt32[Array, "2"],
        rates: Float[np.ndarray, "steps"],
    ) -> Float[Array, "steps"]:
        """Return the loss before each step, NaN from one that is not finite on."""
        caller = "find_learning_rate"
        init_key, shuffle_key = jax.random.split(key)
        parts = model if isinstance(model, ModelParts) else take_model(caller, model(init_key))
        packing = Packing(parts.assembly, has_state=model_state is not None, caller=caller)
        form = read_form(
            caller, self.loss_fn, has_key=None, has_model_state=model_state is not None
        )
        loss_fn, loss_key = self.loss_fn, jax.random.fold_in(key, LOSS)
        if not parts.assembly.is_plain:
            loss_fn = ModelLoss(loss_fn, form, packing)
        params, state = strong((parts.trained, packing.pack(parts.carried, model_state)))
        normal_form = loss_and_aux(loss_fn, state is not None, caller=caller)
        train, seen = self._batches(shuffle_key, len(rates))
        is_double = any(leaf.dtype in _DOUBLES for leaf in jax.tree.leaves(params))
        traced_rates = jnp.asarray(rates, jnp.float64 if is_double else jnp.float32)
        opt_state = strong(self.optimizer_factory(traced_rates[0]).init(params))
        key_of = lambda step: jax.random.fold_in(loss_key, step) if form.takes_key else None

        def look(params: PyTree, state: PyTree) -> Array:
            # a fixed key, too: what differs from step to step are the parameters alone
            of_batch = lambda rows: normal_form(
                params, take(self.data, rows), state, key_of(len(rates))
            )[0].astype(jnp.float32)
            return jnp.mean(jax.lax.map(of_batch, seen))

        def step(carry: tuple, at: tuple) -> tuple[tuple, Array]:
            params, opt_state, state, alive = carry
            rows, rate, number = at
            alive &= jnp.isfinite(loss := look(params, state))
            at_hand = take(self.data, rows), state, key_of(number)
            differentiated = jax.value_and_grad(normal_form, has_aux=True)
            (value, aux), grads = differentiated(params, *at_hand)
            value_fn = lambda params: normal_form(params, *at_hand)[0]
            known = value, optax.tree.conj(grads)
            rule: Any = self.optimizer_factory(rate)
            opt_state = _with_numbers_of(rule.init(params), opt_state)
            after = take_step(caller, rule, value_fn, params, opt_state, known=known)
            new = after.params, strong(after.state), aux.model_state
            kept = jax.tree.map(lambda n, o: jnp.where(alive, n, o), new, carry[:3])
            return (*kept, alive), jnp.where(alive, loss, jnp.nan)

        start = params, opt_state, state, jnp.bool_(True)
        return jax.lax.scan(step, start, (train, traced_rates, jnp.arange(len(rates))))[1]

    def _batches(self, shuffle_key: AnyKey, num_steps: int) -> tuple[Array, Array]:
        """Draw the batches of the steps as `fit` does, and those that the loss is looked at on."""
        per_epoch = num_examples(self.data) // self.batch_size
        epochs = -(-num_steps // per_epoch)
        order = lambda epoch: epoch_order(
            shuffle_key, epoch, num_examples(self.data), self.batch_size
        )
        orders = jax.lax.map(order, jnp.arange(epochs + 1, dtype=jnp.uint32))
        num_seen = min(-(-_SEEN // self.batch_size), per_epoch)
        train = orders[:-1].reshape(-1, self.batch_size)[:num_steps]
        return train, orders[-1, :num_seen]


def _with_numbers_of(fresh: PyTree, opt_state: PyTree) -> PyTree:
    """Put the numbers that `optax.inject_hyperparams` keeps in a state, the rate among them."""
    injects = lambda part: hasattr(part, "hyperparams") and hasattr(part, "_replace")
    put = lambda old, new: old._replace(hyperparams=new.hyperparams) if injects(old) else old
    return strong(jax.tree.map(put, opt_state, fresh, is_leaf=injects))


def _rate_range(
    rates: Float[np.ndarray, "steps"], losses: Float[np.ndarray, "seeds steps"]
) -> RateRange:
    smoothed = _smoothed(np.log10(rates), losses)
    finite = np.isfinite(losses[:, 0])
    best = np.argmin(smoothed, axis=1)
    suggestions = np.where(finite, rates[best] / 10, np.nan)
    logs = np.log(suggestions[finite])
    return RateRange(
        rates=rates,
        losses=losses,
        suggestion=float(np.exp(np.median(logs))) if finite.any() else math.nan,
        spread=float(np.exp(np.ptp(logs))) if finite.any() else math.nan,
        suggestions=suggestions,
        smoothed=np.where(np.isfinite(losses), smoothed, np.nan),
    )


def _smoothed(
    decades: Float[np.ndarray, "steps"], losses: Float[np.ndarray, "seeds steps"]
) -> Float[np.ndarray, "seeds steps"]:
    """Average over neighbours; what diverges is cut off, so that it does not reach far."""
    with np.errstate(over="ignore"):
        start = losses[:, :1]
        ceiling = start + np.maximum(np.abs(start), np.finfo(np.float64).tiny)
    cut = np.where(np.isfinite(losses), np.minimum(losses, ceiling), ceiling)
    weights = np.exp(-0.5 * ((decades[:, None] - decades) / _WIDTH) ** 2)
    return cut @ (weights / weights.sum(axis=1, keepdims=True)).T
