"""The compiled part of a race: every rate and seed of one optimizer on one problem."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxopt_tut.losses import WithoutAux, value_part
from jaxopt_tut.optimizers.inner import take_step
from jaxopt_tut.training.data import DeviceData, take
from jaxopt_tut.training.races.entries import Factory
from jaxopt_tut.training.races.problem import Problem, judge
from jaxopt_tut.types import Batch, Params, PyTree, Scalar

Losses = tuple[Float[Array, "..."], Float[Array, "..."]]
"""What is judged, and the mean training loss, at every evaluation."""


def train_lanes(problem: Problem, factory: Factory, seeds_at_once: int) -> Callable[..., Losses]:
    """Return a function that trains all: its losses are of (seeds, rates, evaluations).

    The rates of one seed share its batches, so that a batch is gathered once for all of them, and
    seeds follow one another: on a CPU that is the quickest order, for what one seed needs stays in
    its cache, and more seeds leave the bits of the others as they are.
    """
    lane = train_lane(problem, factory)

    def run(
        rates: Array, starts: Params, batches: PyTree, data: DeviceData | None, judged: Batch
    ) -> Losses:
        rates_of = jax.vmap(lane, in_axes=(0, None, None, None, None))
        of_seed = lambda seed: rates_of(rates, *seed, data, judged)
        size = None if seeds_at_once == 1 else seeds_at_once
        return jax.lax.map(of_seed, (starts, batches), batch_size=size)

    return run


def train_lane(problem: Problem, factory: Factory) -> Callable[..., Losses]:
    """Return a function that trains once and evaluates on the way."""
    judged_by = judge(problem)

    def run(
        rate: Scalar, start: Params, batches: PyTree, data: DeviceData | None, judged: Batch
    ) -> Losses:
        optimizer = factory(rate)
        step = train_step(problem, optimizer, data)

        def until_evaluation(carry: PyTree, batches: PyTree) -> tuple[PyTree, tuple[Any, Any]]:
            carry, losses = jax.lax.scan(step, carry, batches)
            return carry, (value_part(judged_by(carry[0], judged)), jnp.mean(losses))

        return jax.lax.scan(until_evaluation, (start, optimizer.init(start)), batches)[1]

    return run


def train_step(
    problem: Problem, optimizer: optax.GradientTransformation, data: DeviceData | None
) -> Callable[[PyTree, PyTree], tuple[PyTree, Scalar]]:
    """Return the body of a scan over batches, or over indices of examples."""

    def step(carry: PyTree, batch: PyTree) -> tuple[PyTree, Scalar]:
        batch = batch if data is None else take(data, batch)
        loss = WithoutAux(lambda params: problem.loss(params, batch))
        after = take_step("race", optimizer, loss, *carry)
        return (after.params, after.state), after.value

    return step


def some_steps(problem: Problem, factory: Factory) -> Callable[..., Params]:
    """Return a function that only takes steps, to be timed."""

    def run(rate: Scalar, start: Params, batches: PyTree, data: DeviceData | None) -> Params:
        optimizer = factory(rate)
        step = train_step(problem, optimizer, data)
        return jax.lax.scan(step, (start, optimizer.init(start)), batches)[0][0]

    return run
