"""What a race is asked for, checked before anything is compiled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Float32, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.hyperparameters import require_positive
from jaxopt_tut.optimizers.inner import require_optimizer
from jaxopt_tut.training.races.calling import faults_of
from jaxopt_tut.training.races.problem import Problem, check_problem
from jaxopt_tut.training.scalars import as_count, check_call
from jaxopt_tut.types import Number

Factory = Callable[[Any], optax.GradientTransformation]

Factories = TypeAliasType("Factories", Mapping[str, Factory])
"""From a learning rate, which is traced, to an optimizer, by name."""

Problems = TypeAliasType("Problems", Problem | Sequence[Problem])
"""One, or more of different names."""

Row = Sequence[Number] | np.ndarray | jax.Array

Rates = TypeAliasType("Rates", Row | Mapping[str, Row])
"""Learning rates of all optimizers, or those of each by its name."""

Defaults = TypeAliasType("Defaults", Mapping[str, float])
"""A learning rate by the optimizer's name."""

Seeds = TypeAliasType("Seeds", int | Sequence[int] | np.ndarray | jax.Array)
"""How many, or which."""


class Field(NamedTuple):
    """The rates of all optimizers as one table."""

    rates: Float[np.ndarray, "optimizers rates"]
    defaults: Int[np.ndarray, " optimizers"]

    def row(self, k: int) -> Float[np.ndarray, " rates"]:
        """Return the rates of one optimizer."""
        return self.rates[k][np.isfinite(self.rates[k])]


def check_optimizers(optimizers: Any) -> dict[str, Factory]:
    """Refuse what are no functions from a rate to an optimizer, by name."""
    if not isinstance(optimizers, Mapping):
        found = type(optimizers).__name__
        raise TypeError(f"race needs a dictionary of optimizers by name, got {found}.")
    if not optimizers:
        raise ValueError("race needs one optimizer at least, got none.")
    for name, factory in optimizers.items():
        if not isinstance(name, str):
            raise TypeError(f"race needs a str as name of an optimizer, got {name!r}.")
        if not callable(factory):
            found = "an optimizer" if hasattr(factory, "update") else repr(factory)
            raise TypeError(
                f"race needs a function from the learning rate to an optimizer as {name!r}, "
                f"got {found}: lambda rate: ... makes one."
            )
        _check_factory(name, factory)
    return dict(optimizers)


_ABOUT_THE_VALUE = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


def _check_factory(name: str, factory: Callable[..., Any]) -> None:
    """Make an optimizer of a rate that is traced, as the race will."""
    check_call("race", f"optimizers[{name!r}]", factory, ["learning_rate"])
    made = []

    def make(rate: jax.Array) -> jax.Array:
        made.append(factory(rate))
        return rate

    place = f"race needs optimizers[{name!r}] to make an optimizer of a learning rate, which"

    try:
        with faults_of(place, but=_ABOUT_THE_VALUE):
            jax.eval_shape(make, jnp.float32(1e-3))
    except _ABOUT_THE_VALUE as error:
        raise TypeError(
            f"race trains all rates of {name!r} in one program, in which the learning rate is "
            f"traced, and its factory asks for the value: {str(error).splitlines()[0]}"
        ) from error
    require_optimizer(f"race ({name!r})", made[0])


def check_problems(problems: Any) -> tuple[Problem, ...]:
    """Refuse what are no problems, or two of one name."""
    problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
    if not problems:
        raise ValueError("race needs one problem at least, got none.")
    for problem in problems:
        check_problem(problem)
    names = [problem.name for problem in problems]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"race needs a name of its own for each problem, got {name!r} twice.")
    return problems


def check_rates(
    optimizers: Sequence[str], learning_rates: Any, default_rates: Mapping[str, Any] | None
) -> Field:
    """Make one table of all rates; those of each optimizer rise, its default among them."""
    defaults = {} if default_rates is None else dict(default_rates)
    if isinstance(learning_rates, Mapping):
        _check_names("learning_rates", learning_rates, optimizers)
        if missing := [name for name in optimizers if name not in learning_rates]:
            raise ValueError(
                f"race needs learning_rates of every optimizer, got none of {missing}."
            )
        given = dict(learning_rates)
    else:
        given = dict.fromkeys(optimizers, learning_rates)
    _check_names("default_rates", defaults, optimizers)
    rows = []
    for name in optimizers:
        row = _one_row(name, given[name])
        if name in defaults:
            default = _one_row(name, [defaults[name]])
            row = row if as_raced(default) in as_raced(row) else np.append(row, default)
        rows.append(np.sort(row))
    rates = np.full((len(rows), max(map(len, rows))), np.nan)
    for k, row in enumerate(rows):
        rates[k, : len(row)] = row
    at = [
        int(np.flatnonzero(as_raced(row) == as_raced(defaults[name]))[0])
        if name in defaults
        else -1
        for name, row in zip(optimizers, rows, strict=True)
    ]
    return Field(rates, np.array(at))


def _one_row(name: str, rates: Any) -> Float[np.ndarray, " rates"]:
    try:
        row = np.asarray(rates, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"race needs numbers as learning rates, got {rates!r} for {name!r}."
        ) from None
    if row.ndim != 1 or not row.size:
        raise ValueError(
            f"race needs a sequence of learning rates, got shape {row.shape} for {name!r}."
        )
    for rate in row:
        require_positive(f"race ({name!r})", finite=True, learning_rate=float(rate))
    raced = as_raced(row)
    for rate, single in zip(row, raced, strict=True):
        if single == 0 or np.isinf(single):
            raise ValueError(
                f"race ({name!r}) needs a learning_rate within the range of float32, "
                f"got learning_rate={float(rate)}."
            )
    if len(set(raced)) < len(row):
        raise ValueError(
            f"race needs learning rates that differ in float32, got {row.tolist()} for {name!r}."
        )
    return row


def as_raced(rates: Any) -> Float32[np.ndarray, "..."]:
    """Round to the precision of the race, in which rates are the same or differ."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(rates, np.float64).astype(np.float32)


def _check_names(argument: str, given: Mapping[str, Any], optimizers: Sequence[str]) -> None:
    if unknown := [name for name in given if name not in optimizers]:
        known = list(optimizers)
        raise ValueError(f"race needs {argument} of {known}, got one of {unknown[0]!r}.")


def check_seeds(seeds: Any) -> Int[np.ndarray, " seeds"]:
    """Make an array of the seeds: numbers of their own, or how many there are."""
    if np.ndim(seeds) == 0:
        count = as_count("race", "seeds", seeds)
        if count < 1:
            raise ValueError(f"race needs seeds >= 1, got seeds={count}.")
        return np.arange(count)
    found = np.array([as_count("race", "seeds", seed) for seed in seeds], np.int64)
    if not found.size or len(set(found)) < len(found) or found.min() < 0 or found.max() >= 2**32:
        raise ValueError(f"race needs seeds >= 0 that differ, got seeds={list(seeds)}.")
    return found


def check_steps(steps: Any, evaluate_every: Any) -> tuple[int, int]:
    """Refuse steps that do not end with an evaluation."""
    steps, every = (
        as_count("race", "steps", steps),
        as_count("race", "evaluate_every", evaluate_every),
    )
    for name, count in (("steps", steps), ("evaluate_every", every)):
        if count < 1:
            raise ValueError(f"race needs {name} >= 1, got {name}={count}.")
    if steps % every:
        raise ValueError(
            f"race needs a number of steps that evaluate_every divides, got steps={steps}, "
            f"evaluate_every={every}."
        )
    return steps, every
