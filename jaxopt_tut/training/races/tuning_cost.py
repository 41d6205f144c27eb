"""What tuning costs: the time to be expected of the best of k learning rates tried at random."""

import dataclasses
import math

import jax
import numpy as np
from jaxtyping import Float

from jaxopt_tut.blocks import Block
from jaxopt_tut.training.races import reading
from jaxopt_tut.training.races.times import restricted, split_seeds, static


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TuningCost(Block):
    """Expected time after trying k rates, beside that of the default rate.

    Times are restricted: a run that does not reach its target counts with the budget, and means
    over seeds, subsets of rates and problems are geometric.

    Attributes:
      trials: Numbers of rates tried, from 1 on.
      steps: Expected steps to the target, of shape (optimizers, problems, trials); NaN beyond the
        number of rates that an optimizer has.
      defaults: Those of the default rate, of shape (optimizers, problems); NaN where none is known.
      replacement: Whether a rate may be tried twice.
      optimizers: Their names.
      problems: Their names.
      notes: Sentences on what these numbers do not show.
    """

    trials: Float[np.ndarray, "trials"]
    steps: Float[np.ndarray, "optimizers problems trials"]
    defaults: Float[np.ndarray, "optimizers problems"]
    replacement: bool = static()
    optimizers: tuple[str, ...] = static()
    problems: tuple[str, ...] = static()
    notes: tuple[str, ...] = static(default=())

    @property
    def overall(self) -> Float[np.ndarray, "optimizers trials"]:
        """The geometric mean over problems."""
        return np.exp(np.mean(np.log(self.steps), axis=1))

    @property
    def overall_defaults(self) -> Float[np.ndarray, "optimizers"]:
        """The geometric mean over problems at the default rates."""
        return np.exp(np.mean(np.log(self.defaults), axis=1))

    def _block(self) -> tuple[str, reading.Rows]:
        """Show the expected steps after a few numbers of trials."""
        last = len(self.trials)
        at = [k for k in (1, 2, 4, 8, 16, 32) if k < last] + [last]
        rows = [
            [
                name,
                reading.number(self.overall_defaults[o]),
                *(reading.number(self.overall[o, k - 1]) for k in at),
            ]
            for o, name in enumerate(self.optimizers)
        ]
        lead = (
            "expected steps to the target, geometric mean over problems, at the default rate and "
            "at the best of k tried"
        )
        header = ["", "default", *(f"k={k}" for k in at)]
        return "TuningCost", reading.page(lead, header, rows, self.notes)


def chances_of_best(
    num_rates: int, num_trials: int, replacement: bool
) -> Float[np.ndarray, "rates"]:
    r"""Return the chance that the i-th best of all rates is the best of those tried.

    $$\frac{\binom{R-i}{k-1}}{\binom{R}{k}} \quad\text{or}\quad
      \left(\frac{R-i+1}{R}\right)^k - \left(\frac{R-i}{R}\right)^k$$

    Without and with replacement: Tang et al. 2020 and Dodge et al. 2019, Show your work, section 3.
    """
    if replacement:
        left = np.arange(num_rates, -1, -1) / num_rates
        return -np.diff(left**num_trials)
    every = math.comb(num_rates, num_trials)
    worse = range(num_rates - 1, -1, -1)
    return np.array([math.comb(w, num_trials - 1) / every for w in worse])


def expected_best(
    values: Float[np.ndarray, "rates"], order: np.ndarray, num_trials: int, replacement: bool
) -> float:
    """Return the expected value of the rate that comes first in an order, of those tried."""
    chances = chances_of_best(len(values), num_trials, replacement)
    return float(chances @ values[order])


def tuning_cost(
    losses: Float[np.ndarray, "optimizers problems rates seeds evaluations"],
    crossings: Float[np.ndarray, "optimizers problems rates seeds"],
    learning_rates: Float[np.ndarray, "optimizers rates"],
    default_rates: np.ndarray,
    *,
    budget: float,
    optimizers: tuple[str, ...],
    problems: tuple[str, ...],
    choose: int | None = None,
    replacement: bool = False,
) -> TuningCost:
    """Rank the rates on some seeds, and take the restricted log time of the others."""
    usable = np.isfinite(learning_rates)
    most = int(usable.sum(axis=-1).max())
    choosing, judging = split_seeds(losses.shape[3], choose, most > 1)
    logs = restricted(crossings[..., judging], budget).mean(axis=-1)
    steps = np.full((*logs.shape[:2], most), math.nan)
    defaults = np.full(logs.shape[:2], math.nan)
    for o, p in np.ndindex(*logs.shape[:2]):
        own = np.flatnonzero(usable[o])
        ranking = rank_rates(
            crossings[o, p][own][:, choosing], losses[o, p][own][:, choosing, -1], budget
        )
        for k in range(1, len(own) + 1):
            steps[o, p, k - 1] = expected_best(logs[o, p, own], ranking, k, replacement)
        if default_rates[o] >= 0:
            defaults[o, p] = logs[o, p, default_rates[o]]
    unknown = [name for name, rate in zip(optimizers, default_rates, strict=True) if rate < 0]
    notes = [f"No default rate is known of {reading.listed(unknown)}."] if unknown else []
    if most > 1 and len(np.intersect1d(choosing, judging)):
        notes.append("Rates are ranked and judged on the same seeds: all times are too good.")
    return TuningCost(
        trials=np.arange(1.0, most + 1),
        steps=np.exp(steps),
        defaults=np.exp(defaults),
        replacement=replacement,
        optimizers=optimizers,
        problems=problems,
        notes=tuple(notes),
    )


def rank_rates(
    times: Float[np.ndarray, "rates seeds"], final: Float[np.ndarray, "rates seeds"], budget: float
) -> np.ndarray:
    """Return the rates from the best to the worst, as `choose_rates` would choose among any."""
    worst = np.where(np.isnan(final), math.inf, final).mean(axis=-1)
    return np.lexsort((worst, restricted(times, budget).mean(axis=-1)))
