"""How well the scores of a race are known: given its problems, and over problems like them."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from jaxopt_tut.blocks import Block
from jaxopt_tut.training.races import reading
from jaxopt_tut.training.races.bootstrap import interval_around, resample_seeds
from jaxopt_tut.training.races.profiles import performance_ratios
from jaxopt_tut.training.races.scores import areas
from jaxopt_tut.training.races.times import Times, Unit, require_ratio, require_share, static
from jaxopt_tut.training.scalars import as_count

FEW_SEEDS, FEW_PROBLEMS = 4, 12


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Confidence(Block):
    """Scores with bootstrap intervals.

    Attributes:
      scores: Areas under the performance profiles, of shape (optimizers,).
      given_problems: Their intervals over seeds, for the problems of this race, of shape
        (optimizers, 2).
      over_problems: Their intervals over problems and seeds.
      best_given_problems: Probability of the highest score, shared where several have it.
      best_over_problems: The same over problems and seeds.
      level: Of the intervals.
      num_draws: Draws of each bootstrap.
      unit: "steps" or "seconds".
      optimizers: Their names.
      notes: Sentences on what the intervals do not show.
    """

    scores: Float[np.ndarray, "optimizers"]
    given_problems: Float[np.ndarray, "optimizers 2"]
    over_problems: Float[np.ndarray, "optimizers 2"]
    best_given_problems: Float[np.ndarray, "optimizers"]
    best_over_problems: Float[np.ndarray, "optimizers"]
    level: float = static()
    num_draws: int = static()
    unit: str = static()
    optimizers: tuple[str, ...] = static()
    notes: tuple[str, ...] = static(default=())

    def _block(self) -> tuple[str, reading.Rows]:
        """Show scores and intervals, best first."""
        rows = [
            [
                self.optimizers[o],
                f"{self.scores[o]:.3f}",
                reading.interval(*self.given_problems[o]),
                f"{self.best_given_problems[o]:.0%}",
                reading.interval(*self.over_problems[o]),
                f"{self.best_over_problems[o]:.0%}",
            ]
            for o in np.argsort(-self.scores, kind="stable")
        ]
        header = ["", "score", "given problems", "best", "over problems", "best"]
        title = f"Confidence: scores by {self.unit}, {self.num_draws} draws"
        lead = f"{self.level:.0%} intervals and the probability of the highest score"
        return title, reading.page(lead, header, rows, self.notes)


def shares_of_first(
    scores: Float[np.ndarray, "draws optimizers"],
) -> Float[np.ndarray, "optimizers"]:
    """Return how often each has the highest score; those that tie share the draw."""
    first = scores >= scores.max(axis=-1, keepdims=True)
    return np.mean(first / first.sum(axis=-1, keepdims=True), axis=0)


def confidence(
    times: Times,
    unit: Unit = "steps",
    *,
    max_ratio: float = 4.0,
    level: float = 0.95,
    num_draws: int = 2000,
    seed: int = 0,
) -> Confidence:
    """Bootstrap the scores, with the same draws for all optimizers."""
    require_share("confidence", level=level)
    require_ratio("confidence", max_ratio)
    num_draws = as_count("confidence", "num_draws", num_draws)
    if num_draws < 1:
        raise ValueError(f"confidence needs num_draws >= 1, got num_draws={num_draws}.")
    every = times.within(unit)
    scores = areas(performance_ratios(np.median(every, axis=-1)), max_ratio)
    ends, firsts = [], []
    for problems, size in ((False, every.shape[2]), (True, every.shape[1])):
        rng = np.random.default_rng(seed)
        drawn = resample_seeds(every, num_draws, rng, problems=problems)
        draws = areas(performance_ratios(drawn), max_ratio)
        low, high = interval_around(scores, draws, size, level, student=problems)
        ends.append(np.stack([low, high], axis=-1))
        firsts.append(shares_of_first(draws))
    return Confidence(
        scores=scores,
        given_problems=ends[0],
        over_problems=ends[1],
        best_given_problems=firsts[0],
        best_over_problems=firsts[1],
        level=float(level),
        num_draws=num_draws,
        unit=unit,
        optimizers=times.optimizers,
        notes=(*times.notes, *_notes(*every.shape[1:])),
    )


def _notes(num_problems: int, num_seeds: int) -> tuple[str, ...]:
    """Say where there is too little to resample."""
    notes = []
    if num_seeds < FEW_SEEDS:
        notes.append(
            f"{num_seeds} judging seed{'s are' if num_seeds > 1 else ' is'} too few to know how "
            "much chance there is in a median."
        )
    if num_problems < FEW_PROBLEMS:
        notes.append(
            f"{num_problems} problem{'s are' if num_problems > 1 else ' is'} few: the intervals "
            "over problems speak of problems like these only."
        )
    return tuple(notes)
