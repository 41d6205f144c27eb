"""Curves of low loss between two models, trained by the loss along them."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import brief
from jaxopt_tut.counts import whole_number
from jaxopt_tut.datasets.inner import Chunk, Chunks, read_chunks
from jaxopt_tut.keys import require_key
from jaxopt_tut.landscape.paths import Path, bernstein
from jaxopt_tut.landscape.rows import flat_point, split_point
from jaxopt_tut.landscape.stateful import State, StatefulLoss, open_stateful
from jaxopt_tut.loss_forms import read_form, with_batch
from jaxopt_tut.optimizers.inner import require_optimizer, take_step
from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.trees import require_same_structure, strong
from jaxopt_tut.types import Count, Flag, Limit, LossFn, Optimizer, Params, PRNGKey, PyTree, Scalar
from jaxopt_tut.vectors import ravel


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class FittedPath(Path):
    """A path that was trained, and how that went.

    Attributes:
      points: Both ends, and the trained point between them.
      losses: The loss of each step, at its t and on its chunk of the data.
      diverged: Whether a step led to numbers that are not finite; it was left out, and all behind.
    """

    losses: Float[Array, "..."]
    diverged: Bool[Array, "..."]

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("losses", brief(self.losses)), ("diverged", brief(self.diverged))]
        return "FittedPath", rows


class Carry(NamedTuple):
    """What a step hands on to the next."""

    control: Params
    opt_state: PyTree
    diverged: Flag


class Fixed(NamedTuple):
    """What is the same in all steps."""

    ends: tuple[Params, Params]
    state: State
    key: PRNGKey


def fit_bezier(
    loss_fn: LossFn,
    a: PyTree,
    b: PyTree,
    *batches: Any,
    key: PRNGKey,
    optimizer: Optimizer,
    num_steps: int,
    control: PyTree = None,
    model_state: PyTree = None,
    batch_size: int | None = None,
) -> FittedPath:
    r"""Train the point that bends a quadratic Bezier curve between two models.

    $$\min_c\; \mathbb{E}_{t \sim U(0, 1)}\, f\big((1 - t)^2 a + 2 t (1 - t)\, c + t^2\, b\big)$$

    Each step draws one $t$ and takes one chunk of the data, in their order: examples that are
    sorted are to be shuffled before. It costs what a step of training does. Both ends stay where
    they are; batches are normalised as in training. What is found is seen by
    `path_loss(loss_fn, fit_bezier(...), *batches)`.

    Args:
      loss_fn: The loss $f$ as in training, in any form that `fit` takes, without batches of the
        parameters alone.
      a: Parameters or a model, where $t = 0$.
      b: Another of the same kind, where $t = 1$.
      *batches: The data: arrays, a `Dataset`, several batches, or an iterable on the host.
      key: Draws $t$, and what the loss draws if it takes a key.
      optimizer: Any optax transformation, for $c$.
      num_steps: The number of steps.
      control: Where $c$ begins; half-way between the ends by default.
      model_state: The state, if it is no part of the model; it stays as it is.
      batch_size: Examples of a step; None for all of a batch.

    Returns:
      The path, with the loss of each step and whether it `diverged`.

    Raises:
      TypeError: If a leaf is neither floating nor complex, `key` or `optimizer` is none, or the
        loss cannot be called so.
      ValueError: If the trees differ, the message names the key path; or `num_steps` is negative.

    Example:
      >>> from jaxopt_tut.optimizers import adam
      >>> ring = lambda w, batch: (jnp.sum(w**2) - 1) ** 2
      >>> ends = jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0])
      >>> curve = fit_bezier(ring, *ends, key=jax.random.key(0), optimizer=adam(0.05),
      ...                    num_steps=300, control=jnp.array([0.0, 0.1]))
      >>> bool(abs(jnp.linalg.norm(curve(0.5)) - 1) < 0.1), bool(curve.diverged)
      (True, False)

    References:
      Garipov, Izmailov, Podoprikhin, Vetrov, Wilson (2018), "Loss surfaces, mode connectivity, and
      fast ensembling of DNNs", eq. 2 and section 3.3. https://arxiv.org/abs/1802.10026
    """
    caller = "fit_bezier"
    require_optimizer(caller, optimizer)
    require_key(caller, key)
    count = whole_number(num_steps)
    if count is None or count < 0:
        raise ValueError(
            f"{caller} needs num_steps >= 0, a whole number, got num_steps={num_steps!r}."
        )
    loss_fn = with_batch(loss_fn, batches)
    has_state = model_state is not None
    has_key = read_form(caller, loss_fn, has_key=None, has_model_state=has_state).takes_key
    opened = open_stateful(
        caller, loss_fn, a, key=key if has_key else None, model_state=model_state
    )
    other, _ = split_point(caller, b)
    require_same_structure(opened.trained, other, caller)
    if control is None:
        start = jax.tree.map(lambda x, y: (x + y.astype(x.dtype)) / 2, opened.trained, other)
    else:
        start = ravel(opened.trained)[1](flat_point(caller, control, opened.trained))
    start = strong(start)
    loss = opened.bind(loss_fn, True if opened.has_modes else None)
    fixed = Fixed((opened.trained, other), opened.state, key)
    chunks = read_chunks(caller, batches, batch_size)
    carry = Carry(start, strong(optimizer.init(start)), jnp.asarray(False))
    rule = Rule(loss, optimizer, has_key)
    if is_tracing() or any(map(is_traced, jax.tree.leaves((carry, fixed, chunks)))):
        last, losses = _in_trace(rule, carry, fixed, chunks, count)
    else:
        last, losses = _on_host(rule, carry, fixed, chunks, count)
    return FittedPath((a, split_point(caller, a)[1](last.control), b), losses, last.diverged)


@dataclass(frozen=True)
class Rule:
    """One step, static."""

    loss: StatefulLoss
    optimizer: Optimizer
    has_key: bool

    def __call__(
        self, carry: Carry, fixed: Fixed, chunk: Chunk, index: Limit
    ) -> tuple[Carry, Scalar]:
        """Draw t, and move the control point; leave it once a step was not finite."""
        batch, (first, last) = chunk.batch(), fixed.ends
        draw, loss_key = jax.random.split(jax.random.fold_in(fixed.key, index))
        control = carry.control
        dtype = ravel(control)[0].dtype
        t = jax.random.uniform(draw, (1,), dtype)
        key = loss_key if self.has_key else None
        at = lambda control: (
            self.loss(bernstein((first, control, last), t), batch, fixed.state, key).loss
        )
        after = take_step("fit_bezier", self.optimizer, at, control, carry.opt_state)
        is_finite = jnp.isfinite(after.value) & jnp.isfinite(ravel(after.params)[0]).all()
        diverged = carry.diverged | ~is_finite
        keep = lambda new, old: jnp.where(diverged, old, new)
        new = (after.params, strong(after.state))
        control, opt_state = jax.tree.map(keep, new, (control, carry.opt_state))
        return Carry(control, opt_state, diverged), jnp.where(carry.diverged, jnp.nan, after.value)


# not donated: the optimizer may close over numbers that a derivative is taken of
@functools.partial(jax.jit, static_argnames="rule")
def _step(
    carry: Carry, fixed: Fixed, chunk: Chunk, index: Limit, *, rule: Rule
) -> tuple[Carry, Scalar]:
    return rule(carry, fixed, chunk, index)


def _on_host(
    rule: Rule, carry: Carry, fixed: Fixed, chunks: Chunks, num_steps: int
) -> tuple[Carry, Float[Array, "steps"]]:
    """Go through the data again and again, a step a chunk."""
    losses: list[Array] = []
    while len(losses) < num_steps:
        for chunk, _ in itertools.islice(chunks.pieces(), num_steps - len(losses)):
            carry, loss = _step(carry, fixed, chunk, np.int32(len(losses)), rule=rule)
            losses.append(loss)
    return carry, jnp.stack(losses) if losses else jnp.zeros(0)


def _in_trace(
    rule: Rule, carry: Carry, fixed: Fixed, chunks: Chunks, num_steps: int
) -> tuple[Carry, Float[Array, "steps"]]:
    """Do so in a scan over passes; a step of the last one behind `num_steps` is left out."""
    if chunks.needs_host:
        raise TypeError(
            "fit_bezier goes through batches on the host, got an iterable under a transformation "
            "of JAX such as jit, vmap or grad: hand over arrays there."
        )
    per_pass = chunks.num_chunks
    assert per_pass is not None
    dtype = jax.eval_shape(rule, carry, fixed, next(chunks.pieces())[0], jnp.int32(0))[1].dtype

    def one(carry: Carry, chunk: Chunk, index: Count) -> tuple[Carry, Scalar]:
        if num_steps % per_pass == 0:
            return rule(carry, fixed, chunk, index)
        left_out = lambda carry: (carry, jnp.zeros((), dtype))
        step = lambda carry: rule(carry, fixed, chunk, index)
        return control_flow.cond(index < num_steps, step, left_out, carry)

    def one_pass(carry: Carry, number: Count) -> tuple[Carry, Float[Array, "_"]]:
        start, losses = number * per_pass, []
        for part in chunks.parts:
            step = lambda carry, i, part=part, start=start: one(carry, part.chunk(i)[0], start + i)
            carry, found = control_flow.scan(step, carry, jnp.arange(part.num_full))
            losses.append(found)
            start += part.num_full
            if (rest := part.rest()) is not None:
                carry, loss = one(carry, rest[0], start)
                losses.append(loss[None])
                start += 1
        return carry, jnp.concatenate(losses)

    num_passes = -(-num_steps // per_pass)
    carry, losses = control_flow.scan(one_pass, carry, jnp.arange(num_passes))
    return carry, losses.reshape(-1)[:num_steps]
