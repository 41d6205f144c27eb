"""Every optimizer at every rate on every problem, from the same starts on the same batches."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxopt_tut.keys import require_key
from jaxopt_tut.progress import ProgressLine
from jaxopt_tut.training.data import DeviceData
from jaxopt_tut.training.races.draws import Draws, draw
from jaxopt_tut.training.races.entries import (
    Defaults,
    Factories,
    Factory,
    Problems,
    Rates,
    Seeds,
    check_optimizers,
    check_problems,
    check_rates,
    check_seeds,
    check_steps,
)
from jaxopt_tut.training.races.lanes import some_steps, train_lanes
from jaxopt_tut.training.races.problem import Problem, problem_data
from jaxopt_tut.training.races.table import RaceTable
from jaxopt_tut.training.races.targets import common_target
from jaxopt_tut.training.scalars import as_count
from jaxopt_tut.types import Batch, PRNGKey

TIMED_STEPS, TIMED_CALLS = 50, 5


def race(
    optimizers: Factories,
    problems: Problems,
    *,
    learning_rates: Rates,
    seeds: Seeds,
    steps: int,
    key: PRNGKey,
    default_rates: Defaults | None = None,
    evaluate_every: int = 10,
    reference: str | None = None,
    seeds_at_once: int = 1,
    time_steps: bool = True,
    progress: bool = True,
) -> RaceTable:
    r"""Train with every optimizer at every rate on every problem, from the same starts.

    $$w_{t+1} = w_t + u_o(\eta_r, \nabla \mathrm{loss}_p(w_t, b^{ps}_t)), \qquad
    w_0 = w^{ps}$$

    One seed $s$ is one start $w^{ps}$ and one sequence of batches $b^{ps}_t$ of a problem $p$,
    the same for every optimizer $o$ and rate $\eta_r$, so that differences between optimizers are
    paired. What is to be read off the losses is in the table's methods.

    Each pair of an optimizer and a problem is one compiled program, and what is traced of all of
    them is traced before the first one runs: faults come up at once. On two cores and with the six
    toy problems a program takes a second or two to compile and as long for 60 000 steps. More
    seeds, optimizers or problems leave the bits of the others as they are; more rates may change
    the last ones.

    Args:
      optimizers: By name, functions from a learning rate to an optimizer; the rate is traced.
      problems: One or more, each with a name of its own.
      learning_rates: Rates of all optimizers, or those of each by its name; positive, and
        different in float32.
      seeds: How many, or which: whole numbers.
      steps: Updates in a run.
      key: One typed key: with a problem's name and a seed it makes the start and the batches.
      default_rates: The rate that a user of each optimizer would take first, by name; raced too
        where it is none of the rates.
      evaluate_every: Updates between evaluations; it divides `steps`.
      reference: The optimizer that sets the targets of problems without one: what it reaches, at
        its best rate, in the median over seeds after 3/4 of the steps. None takes the optimizer in
        the middle, the median of what all reach.
      seeds_at_once: How many seeds are trained beside one another. One is best on a CPU; on an
        accelerator take all that its memory holds.
      time_steps: Whether a step of one run alone is timed, with a program of its own; without it
        `seconds_per_step` is NaN.
      progress: Show how far it is.

    Returns:
      All losses, as NumPy arrays, with what is needed to judge them.

    Raises:
      TypeError: If an optimizer is no function of a traced rate, a problem none, a count no
        integer, or the key none.
      ValueError: If there are no optimizers, problems, seeds or steps; if names of problems, rates
        or seeds are there twice; if a rate is not positive, or names an optimizer that is not
        there; if steps do not end with an evaluation; if a problem's data, loss or batch size do
        not fit together.

    Example:
      On a parabola a step of gradient descent takes half of the way, or all of it.

      >>> import optax
      >>> loss = lambda w, batch: jnp.mean((w - batch) ** 2) / 2
      >>> parabola = Problem("parabola", lambda key: jnp.array(1.0), loss, jnp.zeros(4),
      ...                    batch_size=2, target=1e-6)
      >>> table = race({"sgd": optax.sgd}, parabola, learning_rates=[0.5, 1.0], seeds=2, steps=3,
      ...              key=jax.random.key(0), evaluate_every=1, time_steps=False)
      >>> print(2 * table.losses[0, 0, :, 0])  # by rate and step
      [[0.25     0.0625   0.015625]
       [0.       0.       0.      ]]
    """
    factories, problems = check_optimizers(optimizers), check_problems(problems)
    field = check_rates(list(factories), learning_rates, default_rates)
    steps, every = check_steps(steps, evaluate_every)
    which = check_seeds(seeds)
    at_once = as_count("race", "seeds_at_once", seeds_at_once)
    if at_once < 1:
        raise ValueError(f"race needs seeds_at_once >= 1, got seeds_at_once={at_once}.")
    if reference is not None and reference not in factories:
        raise ValueError(f"race needs a reference of {list(factories)}, got {reference!r}.")
    require_key("race", key)

    rosters = [_prepare(problem, key, which, steps, every) for problem in problems]
    programs = {
        (k, p): jax.jit(train_lanes(roster.problem, factory, at_once)).lower(
            *_arguments(roster, field.row(k))
        )
        for p, roster in enumerate(rosters)
        for k, factory in enumerate(factories.values())
    }
    shape = (len(factories), len(problems), field.rates.shape[1], len(which), steps // every)
    losses = np.full((2, *shape), np.inf, np.float32)
    seconds = np.full(shape[:2], np.nan)
    line = ProgressLine(len(programs), enabled=progress, unit="race")
    for number, (k, p) in enumerate(list(programs), start=1):
        name, factory = list(factories.items())[k]
        rates = field.row(k)
        compiled = programs.pop((k, p)).compile()
        found = finite_so_far(compiled(*_arguments(rosters[p], rates)))
        losses[:, k, p, : len(rates)] = found.transpose(0, 2, 1, 3)
        if time_steps:
            seconds[k, p] = _seconds_per_step(rosters[p], factory, rates)
        line.show(number, {f"{name} on {problems[p].name}": float(found[0].min())})
    line.close()
    return RaceTable(
        optimizers=tuple(factories),
        problems=tuple(problem.name for problem in problems),
        learning_rates=field.rates,
        seeds=which,
        steps=np.arange(every, steps + 1, every),
        losses=losses[0],
        training_losses=losses[1],
        targets=_targets(problems, losses[0], list(factories), reference),
        seconds_per_step=seconds,
        default_rates=field.defaults,
    )


class Roster(NamedTuple):
    """A problem with what is drawn for it, on the device."""

    problem: Problem
    draws: Draws
    data: DeviceData | None
    judging: Batch


def _prepare(
    problem: Problem, key: PRNGKey, seeds: Int[np.ndarray, " seeds"], steps: int, every: int
) -> Roster:
    data, judging = problem_data(problem)
    return Roster(problem, draw(problem, data, key, seeds, steps, every), data, judging)


def _arguments(roster: Roster, rates: Float[np.ndarray, " rates"]) -> tuple[Any, ...]:
    draws = roster.draws
    return _traced(rates, draws), draws.starts, draws.batches, roster.data, roster.judging


def _traced(rates: Any, draws: Draws) -> Array:
    """Make an array of rates in single precision, or in that of double parameters."""
    kinds = [jnp.finfo(leaf.dtype).bits for leaf in jax.tree.leaves(draws.starts)]
    return jnp.asarray(rates, jnp.float64 if max(kinds, default=32) == 64 else jnp.float32)


def finite_so_far(losses: Any) -> Float[np.ndarray, "two *lanes evaluations"]:
    """Make inf of all losses from the first one on that is not finite, in both columns."""
    both = np.stack([np.asarray(column, np.float32) for column in losses])
    lost = np.logical_or.accumulate(~np.isfinite(both).all(axis=0), axis=-1)
    return np.where(lost, np.float32(np.inf), both)


def _seconds_per_step(
    roster: Roster, factory: Factory, rates: Float[np.ndarray, " rates"]
) -> float:
    """Time the steps of one run alone, at the rate in the middle: the least of some calls."""
    start, batches = jax.tree.map(lambda leaf: leaf[0], roster.draws)
    batches = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:TIMED_STEPS], batches)
    num_steps = len(jax.tree.leaves(batches)[0])
    rate = _traced(rates[len(rates) // 2], roster.draws)
    run = jax.jit(some_steps(roster.problem, factory))
    seconds = []
    for _ in range(1 + TIMED_CALLS):  # the first one compiles
        begin = time.perf_counter()
        jax.block_until_ready(run(rate, start, batches, roster.data))
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:]) / num_steps


def _targets(
    problems: Sequence[Problem], losses: np.ndarray, names: list[str], reference: str | None
) -> Float[np.ndarray, " problems"]:
    chosen = losses if reference is None else losses[[names.index(reference)]]
    return np.array(
        [
            common_target(chosen[:, p]) if problem.target is None else float(problem.target)
            for p, problem in enumerate(problems)
        ]
    )
