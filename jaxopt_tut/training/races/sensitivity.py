"""How much the learning rate matters: time and loss at every rate."""

import dataclasses
import math

import jax
import numpy as np
from jaxtyping import Float

from jaxopt_tut.blocks import Block
from jaxopt_tut.training.races import reading
from jaxopt_tut.training.races.crossings import median_interval
from jaxopt_tut.training.races.times import require_share, static


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Block):
    """Medians over all seeds at every learning rate, with intervals of the median.

    Attributes:
      learning_rates: Of shape (optimizers, rates), NaN where an optimizer has fewer.
      times: Median steps to the target, of shape (optimizers, problems, rates).
      time_intervals: Of shape (optimizers, problems, rates, 2), near the budget up to `inf`.
      losses: Median final loss.
      loss_intervals: Of shape (optimizers, problems, rates, 2).
      widths: Decades of rates within twice the time of the best one, of shape (optimizers,
        problems): the sum of the grid's steps on both of whose ends that holds.
      coverage: That the intervals reach, of the level asked for.
      budget: Steps of a run.
      optimizers: Their names.
      problems: Their names.
      notes: Sentences on what these numbers do not show.
    """

    learning_rates: Float[np.ndarray, "optimizers rates"]
    times: Float[np.ndarray, "optimizers problems rates"]
    time_intervals: Float[np.ndarray, "optimizers problems rates 2"]
    losses: Float[np.ndarray, "optimizers problems rates"]
    loss_intervals: Float[np.ndarray, "optimizers problems rates 2"]
    widths: Float[np.ndarray, "optimizers problems"]
    coverage: float = static()
    budget: float = static()
    optimizers: tuple[str, ...] = static()
    problems: tuple[str, ...] = static()
    notes: tuple[str, ...] = static(default=())

    def _block(self) -> tuple[str, reading.Rows]:
        """Show over how many decades of rates each optimizer is nearly as fast as at its best."""
        rows = [
            [name, *map(reading.number, self.widths[o])] for o, name in enumerate(self.optimizers)
        ]
        lead = "decades of rates within twice the best median time"
        return "Sensitivity", reading.page(lead, ["", *self.problems], rows, self.notes)


def width_within(
    rates: Float[np.ndarray, "rates"], times: Float[np.ndarray, "rates"], factor: float
) -> float:
    """Return the decades of rates at both ends of which the time is within a factor of the best."""
    kept = np.isfinite(rates)
    order = np.argsort(rates[kept], kind="stable")
    logs, times = np.log10(rates[kept][order]), times[kept][order]
    if not np.any(np.isfinite(times)):
        return math.nan
    good = times <= factor * times.min()
    return float(np.sum(np.diff(logs)[good[1:] & good[:-1]]))


def sensitivity(
    crossings: Float[np.ndarray, "optimizers problems rates seeds"],
    final: Float[np.ndarray, "optimizers problems rates seeds"],
    learning_rates: Float[np.ndarray, "optimizers rates"],
    *,
    level: float,
    budget: float,
    optimizers: tuple[str, ...],
    problems: tuple[str, ...],
) -> Sensitivity:
    """Take medians over seeds at every rate."""
    require_share("sensitivity", level=level)
    times, losses = np.median(crossings, axis=-1), np.median(final, axis=-1)
    *time_ends, coverage = median_interval(crossings, level)
    *loss_ends, _ = median_interval(final, level)
    widths = [
        [width_within(learning_rates[o], times[o, p], 2.0) for p in range(len(problems))]
        for o in range(len(optimizers))
    ]
    few = coverage < level
    seeds = crossings.shape[-1]
    note = (
        f"{reading.counted(seeds, 'seed')} cannot give a {level:.0%} interval of a median: those "
        f"shown have {coverage:.0%}."
    )
    return Sensitivity(
        learning_rates=learning_rates,
        times=times,
        time_intervals=np.stack(time_ends, axis=-1),
        losses=losses,
        loss_intervals=np.stack(loss_ends, axis=-1),
        widths=np.asarray(widths).reshape(times.shape[:2]),
        coverage=coverage,
        budget=budget,
        optimizers=optimizers,
        problems=problems,
        notes=(note,) if few else (),
    )
