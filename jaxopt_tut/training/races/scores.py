"""AlgoPerf's score: the area under a performance profile."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from jaxopt_tut.blocks import Block
from jaxopt_tut.training.races import reading
from jaxopt_tut.training.races.profiles import performance_ratios, shares_within
from jaxopt_tut.training.races.times import Times, Unit, require_ratio, static

ALGOPERF_POINTS = 100


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Scores(Block):
    """Areas under the performance profiles: 1 is the fastest on every problem, 0 solves none.

    Attributes:
      scores: Of shape (optimizers,).
      ratios: Median time over the best one of the problem, of shape (optimizers, problems).
      max_ratio: Where the area ends.
      unit: "steps" or "seconds".
      optimizers: Their names.
      problems: Their names.
      notes: Sentences on what the scores do not show.
    """

    scores: Float[np.ndarray, "optimizers"]
    ratios: Float[np.ndarray, "optimizers problems"]
    max_ratio: float = static()
    unit: str = static()
    optimizers: tuple[str, ...] = static()
    problems: tuple[str, ...] = static()
    notes: tuple[str, ...] = static(default=())

    def _block(self) -> tuple[str, reading.Rows]:
        """Show the scores, best first, with the ratio on each problem."""
        order = np.argsort(-self.scores, kind="stable")
        rows = [
            [self.optimizers[o], f"{self.scores[o]:.3f}", *map(reading.number, self.ratios[o])]
            for o in order
        ]
        lead = (
            f"area under the profile of {self.unit} up to {self.max_ratio:g} times the best, and "
            "the ratios to it; intervals are confidence()'s"
        )
        return "Scores", reading.page(lead, ["", "score", *self.problems], rows, self.notes)


def areas(
    ratios: Float[np.ndarray, "*draws optimizers problems"], max_ratio: float
) -> Float[np.ndarray, "*draws optimizers"]:
    r"""Integrate the performance profiles in closed form.

    $$\frac{1}{T - 1} \int_1^T \rho_o(\tau)\, d\tau
      = \frac{1}{P} \sum_p \frac{\max(0, T - r_{o,p})}{T - 1}$$
    (the benchmark score of Dahl et al. 2023, arXiv:2306.07179)
    """
    return np.mean(np.maximum(0.0, max_ratio - ratios), axis=-1) / (max_ratio - 1)


def algoperf_areas(
    ratios: Float[np.ndarray, "*draws optimizers problems"], max_ratio: float
) -> Float[np.ndarray, "*draws optimizers"]:
    """Integrate them as AlgoPerf's code does: trapezoids between 100 points, which add a little.

    A jump between two points counts as a slope, so that the area is off by up to 1/198 of the
    range a problem.
    """
    taus = np.linspace(1.0, max_ratio, ALGOPERF_POINTS)
    return np.trapezoid(shares_within(ratios, taus), x=taus, axis=-1) / (max_ratio - 1)


def scores(
    times: Times, unit: Unit = "steps", *, max_ratio: float = 4.0, algoperf: bool = False
) -> Scores:
    """Score each optimizer by its median times."""
    require_ratio("scores", max_ratio)
    ratios = performance_ratios(np.median(times.within(unit), axis=-1))
    return Scores(
        scores=(algoperf_areas if algoperf else areas)(ratios, max_ratio),
        ratios=ratios,
        max_ratio=float(max_ratio),
        unit=unit,
        optimizers=times.optimizers,
        problems=times.problems,
        notes=times.notes,
    )
