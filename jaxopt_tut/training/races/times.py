"""Times to the target: rates are chosen on some seeds and judged on others."""

import dataclasses
import math
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import Block
from jaxopt_tut.hyperparameters import require_real
from jaxopt_tut.training.races import reading

Unit = TypeAliasType("Unit", Literal["steps", "seconds"])
"""What time is counted in."""


def static(**options: Any) -> Any:
    """Declare a field that is no array."""
    return dataclasses.field(metadata={"static": True}, **options)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Times(Block):
    """Times to the target, at the rate that other seeds chose.

    Attributes:
      steps: Of shape (optimizers, problems, judging seeds), `inf` where the target was not reached.
      seconds_per_step: Of shape (optimizers, problems).
      learning_rates: The rates chosen, of shape (optimizers, problems).
      at_edge: Whether that is the smallest or the largest of several rates.
      seeds: Those that judge.
      budget: Steps of a run.
      optimizers: Their names.
      problems: Their names.
      notes: Sentences on what these times do not show.
    """

    steps: Float[np.ndarray, "optimizers problems seeds"]
    seconds_per_step: Float[np.ndarray, "optimizers problems"]
    learning_rates: Float[np.ndarray, "optimizers problems"]
    at_edge: Bool[np.ndarray, "optimizers problems"]
    seeds: Int[np.ndarray, "seeds"]
    budget: float = static()
    optimizers: tuple[str, ...] = static()
    problems: tuple[str, ...] = static()
    notes: tuple[str, ...] = static(default=())

    def within(self, unit: Unit = "steps") -> Float[np.ndarray, "optimizers problems seeds"]:
        """Return the times in steps or in seconds.

        Seconds are steps times the time of a step: runs that share a device have no time of their
        own.

        Args:
          unit: "steps" or "seconds".

        Returns:
          Times of shape (optimizers, problems, seeds).

        Raises:
          ValueError: If the unit is another, or seconds are asked for that were not measured.
        """
        if unit not in ("steps", "seconds"):
            raise ValueError(f"times needs unit 'steps' or 'seconds', got unit={unit!r}.")
        if unit == "steps":
            return self.steps
        if not np.all(np.isfinite(self.seconds_per_step) & (self.seconds_per_step > 0)):
            raise ValueError("times needs the seconds of a step for unit='seconds', got none.")
        return self.steps * self.seconds_per_step[..., None]

    def horizon(self, unit: Unit = "steps") -> Float[np.ndarray, "problems"]:
        """Return the time up to which every optimizer was watched on each problem.

        Args:
          unit: "steps" or "seconds".

        Returns:
          A time a problem.
        """
        whole = np.full(self.steps.shape[:2], float(self.budget))
        return np.min(whole * (self.seconds_per_step if unit == "seconds" else 1.0), axis=0)

    def _block(self) -> tuple[str, reading.Rows]:
        """Show the median time of each optimizer on each problem."""
        medians = np.median(self.steps, axis=-1)
        rows = [[name, *map(reading.number, medians[o])] for o, name in enumerate(self.optimizers)]
        reached = np.isfinite(self.steps)
        title = f"Times: {reading.counted(len(self.seeds), 'seed')} of {self.budget:g} steps"
        lead = f"median steps to the target; {np.mean(reached):.0%} of the runs reached it"
        return title, reading.page(lead, ["", *self.problems], rows, self.notes)


def require_ratio(caller: str, max_ratio: float) -> None:
    """Refuse what no profile can end at."""
    require_real(caller, max_ratio=max_ratio)
    if not 1 < max_ratio < math.inf:
        raise ValueError(f"{caller} needs a finite max_ratio > 1, got max_ratio={max_ratio}.")


def require_share(caller: str, **values: Any) -> None:
    """Refuse what is no level of an interval or a test."""
    require_real(caller, **values)
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"{caller} needs 0 < {name} < 1, got {name}={value}.")


def restricted(
    times: Float[np.ndarray, "*runs"], horizon: Float[np.ndarray, "..."] | float
) -> Float[np.ndarray, "*runs"]:
    """Return the logarithm of the times, of the horizon for those beyond it.

    A mean of times some of which are infinite is infinite; the *restricted* mean counts a run only
    as long as it was watched (Royston and Parmar 2013, BMC Med. Res. Methodol. 13:152).
    """
    return np.log(np.minimum(times, horizon))


def choose_rates(
    times: Float[np.ndarray, "*groups rates seeds"],
    final: Float[np.ndarray, "*groups rates seeds"],
    usable: Bool[np.ndarray, "*groups rates"],
    budget: float,
) -> Int[np.ndarray, "*groups"]:
    """Return the index of the best rate: the least mean log time, then the least final loss.

    Runs that do not reach the target count with the budget; where no rate reaches it, the mean
    final loss decides, and a loss that is not finite is the worst.
    """
    worst = np.where(np.isnan(final), math.inf, final).mean(axis=-1)
    speed = np.where(usable, restricted(times, budget).mean(axis=-1), math.inf)
    best = speed <= speed.min(axis=-1, keepdims=True)
    # Of rates that diverge alike, the first that is one: infinity would choose the padding.
    worst = np.where(best & usable, np.minimum(worst, np.finfo(np.float64).max), math.inf)
    return np.argmin(worst, axis=-1)


def split_seeds(num_seeds: int, choose: int | None, needed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the seeds that choose and those that judge; the same ones where one cannot split."""
    every = np.arange(num_seeds)
    if choose is None:
        choose = num_seeds // 2 if needed else 0
    elif isinstance(choose, bool) or not isinstance(choose, int | np.integer):
        raise TypeError(f"times needs a whole number of seeds to choose on, got choose={choose!r}.")
    elif not 0 <= choose < num_seeds:
        raise ValueError(
            f"times needs 0 <= choose < {num_seeds}, the number of seeds, got choose={choose}."
        )
    return (every[:choose] if choose else every), every[choose:]


def judge(
    losses: Float[np.ndarray, "optimizers problems rates seeds evaluations"],
    crossings: Float[np.ndarray, "optimizers problems rates seeds"],
    learning_rates: Float[np.ndarray, "optimizers rates"],
    seconds_per_step: Float[np.ndarray, "optimizers problems"],
    *,
    first: float,
    budget: float,
    seeds: Int[np.ndarray, "seeds"],
    optimizers: tuple[str, ...],
    problems: tuple[str, ...],
    choose: int | None = None,
) -> Times:
    """Choose a rate on some of the seeds and take the times of the others.

    Choosing and judging on the same seeds favours whoever has more rates to try; leaving one out
    does too, for the folds share their seeds.
    """
    learning_rates = np.broadcast_to(learning_rates[:, None], losses.shape[:3])
    usable = np.isfinite(learning_rates)
    several = usable.sum(axis=-1) > 1
    choosing, judging = split_seeds(losses.shape[3], choose, bool(np.any(several)))
    chosen = choose_rates(
        crossings[..., choosing], losses[..., choosing, -1], usable, float(budget)
    )
    index = chosen[..., None]
    rates = np.take_along_axis(learning_rates, index, -1)[..., 0]
    steps = np.take_along_axis(crossings[..., judging], index[..., None], 2)[..., 0, :]
    low = np.min(np.where(usable, learning_rates, math.inf), axis=-1)
    high = np.max(np.where(usable, learning_rates, -math.inf), axis=-1)
    at_edge = several & ((rates == low) | (rates == high))
    overlap = bool(np.any(several)) and len(np.intersect1d(choosing, judging)) > 0
    return Times(
        steps=steps,
        seconds_per_step=np.asarray(seconds_per_step, np.float64),
        learning_rates=rates,
        at_edge=at_edge,
        seeds=seeds[judging],
        budget=float(budget),
        optimizers=optimizers,
        problems=problems,
        notes=_notes(steps, at_edge, overlap, first, optimizers, problems),
    )


def _notes(
    steps: np.ndarray,
    at_edge: np.ndarray,
    overlap: bool,
    first: float,
    optimizers: tuple[str, ...],
    problems: tuple[str, ...],
) -> tuple[str, ...]:
    """Say what the times do not show."""
    notes = []
    if overlap:
        notes.append(
            "Rates are chosen and judged on the same seeds, which favours optimizers with more "
            "rates: no comparison of these times can be relied on."
        )
    unsolved = [name for name, t in zip(problems, steps.swapaxes(0, 1), strict=True) if _never(t)]
    if unsolved:
        notes.append(f"No optimizer reaches the target of {reading.listed(unsolved)}.")
    given = [
        name
        for name, t in zip(problems, steps.swapaxes(0, 1), strict=True)
        if np.all(t <= max(first, 1.0))
    ]
    if given:
        notes.append(
            f"Every run is at the target of {reading.listed(given)} by the first evaluation, which "
            "tells nobody apart."
        )
    lost = [name for name, t in zip(optimizers, steps, strict=True) if _never(t)]
    if lost and len(unsolved) < len(problems):
        notes.append(f"No target is reached by {reading.listed(lost)}.")
    edges = [
        f"{optimizers[o]} on {problems[p]}" for o, p in np.argwhere(at_edge & ~_all_never(steps))
    ]
    if edges:
        notes.append(
            f"The best rate is an end of the grid for {reading.listed(edges)}: widen the grid."
        )
    return tuple(notes)


def _never(times: np.ndarray) -> bool:
    return bool(np.all(np.isinf(times)))


def _all_never(steps: np.ndarray) -> np.ndarray:
    return np.all(np.isinf(steps), axis=-1)
