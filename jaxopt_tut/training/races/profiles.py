"""Performance profiles: on which share of the problems is an optimizer nearly the fastest."""

import dataclasses
import math

import jax
import numpy as np
from jaxtyping import Float

from jaxopt_tut.blocks import Block
from jaxopt_tut.training.races import reading
from jaxopt_tut.training.races.bootstrap import interval_around, resample_seeds
from jaxopt_tut.training.races.times import Times, Unit, require_ratio, static


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Profiles(Block):
    r"""Performance profiles with bootstrap bands.

    Attributes:
      ratios: Time over the best time of the problem, of shape (optimizers, problems).
      taus: Where the profiles are evaluated, from 1 on.
      shares: Share of problems with a ratio of at most tau, of shape (optimizers, taus).
      low: Lower end of the pointwise band over seeds.
      high: Its upper end.
      level: Of the band.
      unit: "steps" or "seconds".
      optimizers: Their names.
      notes: Sentences on what the profiles do not show.
    """

    ratios: Float[np.ndarray, "optimizers problems"]
    taus: Float[np.ndarray, "taus"]
    shares: Float[np.ndarray, "optimizers taus"]
    low: Float[np.ndarray, "optimizers taus"]
    high: Float[np.ndarray, "optimizers taus"]
    level: float = static()
    unit: str = static()
    optimizers: tuple[str, ...] = static()
    notes: tuple[str, ...] = static(default=())

    def _block(self) -> tuple[str, reading.Rows]:
        """Show each profile at a few ratios."""
        wanted = [tau for tau in (1.0, 1.5, 2.0, 4.0, 10.0) if tau <= self.taus[-1]]
        at = np.clip(np.searchsorted(self.taus, wanted, side="right") - 1, 0, None)
        rows = [
            [name, *(f"{self.shares[o, i]:.2f}" for i in at)]
            for o, name in enumerate(self.optimizers)
        ]
        problems = reading.counted(self.ratios.shape[1], "problem")
        lead = f"share of {problems} solved within tau times the best median time in {self.unit}"
        header = ["", *(f"tau {tau:g}" for tau in wanted)]
        return "Profiles", reading.page(lead, header, rows, self.notes)


def performance_ratios(
    times: Float[np.ndarray, "*draws optimizers problems"],
) -> Float[np.ndarray, "*draws optimizers problems"]:
    r"""Divide by the best time of each problem; infinity where the target was not reached.

    $$r_{o,p} = t_{o,p} / \min_{o'} t_{o',p}$$  (Dolan and Moré 2002, section 2)
    """
    best = times.min(axis=-2, keepdims=True)
    # Where nobody arrives the ratio is infinity over infinity, and no one has solved the problem.
    return np.divide(times, best, out=np.full(times.shape, math.inf), where=np.isfinite(times))


def shares_within(
    ratios: Float[np.ndarray, "*draws optimizers problems"], taus: Float[np.ndarray, "taus"]
) -> Float[np.ndarray, "*draws optimizers taus"]:
    r"""Evaluate the performance profiles.

    $$\rho_o(\tau) = \frac{1}{P} |\{p : r_{o,p} \le \tau\}|$$  (Dolan and Moré 2002, equation 2.1)
    """
    ordered = np.sort(ratios, axis=-1)
    flat = ordered.reshape(-1, ordered.shape[-1])
    counts = np.stack([np.searchsorted(row, taus, side="right") for row in flat])
    return counts.reshape(*ratios.shape[:-1], len(taus)) / ratios.shape[-1]


def profiles(
    times: Times,
    unit: Unit = "steps",
    *,
    max_ratio: float = 10.0,
    level: float = 0.95,
    num_draws: int = 500,
    seed: int = 0,
) -> Profiles:
    """Compare median times to the best on each problem, with a band over resampled seeds."""
    require_ratio("profiles", max_ratio)
    every = times.within(unit)
    ratios = performance_ratios(np.median(every, axis=-1))
    inner = ratios[(ratios > 1) & (ratios < max_ratio)]
    taus = np.unique(np.concatenate([np.geomspace(1.0, max_ratio, 61), inner]))
    drawn = resample_seeds(every, num_draws, np.random.default_rng(seed))
    shares = shares_within(ratios, taus)
    draws = shares_within(performance_ratios(drawn), taus)
    low, high = interval_around(shares, draws, every.shape[-1], level)
    return Profiles(
        ratios=ratios,
        taus=taus,
        shares=shares,
        low=low,
        high=high,
        level=level,
        unit=unit,
        optimizers=times.optimizers,
        notes=times.notes,
    )
