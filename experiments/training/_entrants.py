"""Twelve optimizers as their users know them: functions of the learning rate, and defaults."""

from functools import cache

import jax
import numpy as np
import optax

from jaxopt_tut.optimizers import adam, adamw, momentum, norms, sgd, steepest_descent
from jaxopt_tut.training import RaceTable, problems, race

ENTRANTS = {
    "SGD": sgd,
    "momentum": momentum,
    "Nesterov": lambda rate: momentum(rate, nesterov=True),
    "AdaGrad": optax.adagrad,
    "RMSprop": lambda rate: optax.rmsprop(rate, decay=0.99),
    "Adam": adam,
    "AdamW": adamw,
    "NAdam": optax.nadam,
    "AMSGrad": optax.amsgrad,
    "AdaBelief": optax.adabelief,
    "Lion": optax.lion,
    "sign": lambda rate: steepest_descent(rate, norm=norms.LInf(), scale_by_dual_norm=False),
}

PYTORCH = {
    "SGD": 1e-3,
    "momentum": 1e-3,
    "Nesterov": 1e-3,
    "AdaGrad": 1e-2,
    "RMSprop": 1e-2,
    "Adam": 1e-3,
    "AdamW": 1e-3,
    "NAdam": 2e-3,
    "AMSGrad": 1e-3,
    "AdaBelief": 1e-3,
    "Lion": 1e-4,
    "sign": 1e-4,
}
"""The default rates of PyTorch 2.13; for AdaBelief, Lion and sign descent, those of their papers.

PyTorch's momentum is the heavy ball, whose rate is ten times smaller at a decay of .9 than that of
the moving average here; its default is that of plain descent all the same.
"""

TUTORIAL = PYTORCH | {"SGD": 0.1, "momentum": 0.1, "Nesterov": 0.1}
"""What the tutorials take: the first one trains SGD and momentum at .1."""


def log_rates(num_rates: int) -> np.ndarray:
    """Return rates from 1e-4 to 10, evenly in their logarithm."""
    return np.logspace(-4, 1, num_rates)


@cache
def raced(
    names: tuple[str, ...], kinds: tuple[str, ...], num_rates: int, num_seeds: int, num_steps: int
) -> RaceTable:
    """Race some of the entrants on some of the problems; the same race runs once a process."""
    return race(
        {name: ENTRANTS[name] for name in names},
        [getattr(problems, kind)() for kind in kinds],
        learning_rates=log_rates(num_rates),
        seeds=num_seeds,
        steps=num_steps,
        key=jax.random.key(0),
        time_steps=False,
        progress=False,
    )
