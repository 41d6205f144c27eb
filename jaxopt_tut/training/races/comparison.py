"""Which optimizers differ: every pair, with as many tests as there are pairs taken into account."""

import dataclasses
from typing import Literal

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxopt_tut.blocks import Block
from jaxopt_tut.training.races import reading
from jaxopt_tut.training.races.sign_flips import holm, sign_flip_p_values, smallest_p_value
from jaxopt_tut.training.races.times import Times, Unit, require_share, restricted, static

MOST_PAIRS = 12


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison(Block):
    """Ratios of times for all pairs of optimizers, with p values.

    Attributes:
      ratios: Geometric mean of the row's time over the column's, of shape (optimizers, optimizers);
        below 1 the row is faster.
      p_values: Of paired sign flips, two-sided; 1 on the diagonal.
      adjusted: The same by Holm's method for the number of pairs.
      significant: Where the adjusted p value is at most `alpha`.
      smallest_p: The smallest p value that this many differences can have.
      num_pairs: Tests that Holm's method allows for.
      alpha: The chance of any false claim.
      over: "seeds", which is given the problems, or "problems".
      unit: "steps" or "seconds".
      optimizers: Their names.
      notes: Sentences on what cannot be decided.
    """

    ratios: Float[np.ndarray, "optimizers optimizers"]
    p_values: Float[np.ndarray, "optimizers optimizers"]
    adjusted: Float[np.ndarray, "optimizers optimizers"]
    significant: Bool[np.ndarray, "optimizers optimizers"]
    smallest_p: float = static()
    num_pairs: int = static()
    alpha: float = static()
    over: str = static()
    unit: str = static()
    optimizers: tuple[str, ...] = static()
    notes: tuple[str, ...] = static(default=())

    def _block(self) -> tuple[str, reading.Rows]:
        """List the pairs that differ, surest first."""
        rows, names = [], self.optimizers
        for i, j in np.argwhere(self.significant & (self.ratios < 1)):
            rows.append((self.adjusted[i, j], self.ratios[i, j], names[i], names[j]))
        rows = [
            [f"{faster} before {slower}", f"{1 / ratio:.2f}", f"{p:.2g}"]
            for p, ratio, faster, slower in sorted(rows)
        ]
        pairs = reading.counted(self.num_pairs, "pair")
        differ = "differs" if len(rows) == 1 else "differ"
        title = f"Comparison over {self.over}: {len(rows)} of {pairs} {differ} in {self.unit}"
        lead = f"at {self.alpha:g} (sign flips, Holm); the smallest p is {self.smallest_p:.2g}"
        return title, reading.page(lead, ["", "times faster", "p, Holm"], rows, self.notes)


def compare(
    times: Times,
    unit: Unit = "steps",
    *,
    over: Literal["seeds", "problems"] = "seeds",
    problem: str | None = None,
    alpha: float = 0.05,
) -> Comparison:
    """Test all pairs of optimizers by flipping the signs of their differences in log time."""
    differences = _log_times(times, unit, over, problem)
    require_share("compare", alpha=alpha)
    num, count = differences.shape
    rows, cols = np.triu_indices(num, 1)
    paired = differences[rows] - differences[cols]
    p_values, adjusted = np.ones((num, num)), np.ones((num, num))
    flips = sign_flip_p_values(paired)
    for matrix, values in ((p_values, flips), (adjusted, holm(flips))):
        matrix[rows, cols] = matrix[cols, rows] = values
    mean = differences.mean(axis=-1)
    unit_of_flips = "problem" if over == "problems" else "judging seed"
    times_problems = " times problems" if over == "seeds" and problem is None else ""
    return Comparison(
        ratios=np.exp(mean[:, None] - mean[None, :]),
        p_values=p_values,
        adjusted=adjusted,
        significant=adjusted <= alpha,
        smallest_p=smallest_p_value(count),
        num_pairs=len(rows),
        alpha=float(alpha),
        over=over if problem is None else f"seeds on {problem}",
        unit=unit,
        optimizers=times.optimizers,
        notes=(*times.notes, *_notes(paired, alpha, unit_of_flips, times_problems)),
    )


def _log_times(
    times: Times, unit: Unit, over: str, problem: str | None
) -> Float[np.ndarray, "optimizers n"]:
    """Return restricted log times whose differences may change their sign together."""
    if over not in ("seeds", "problems"):
        raise ValueError(f"compare needs over 'seeds' or 'problems', got over={over!r}.")
    logs = restricted(times.within(unit), times.horizon(unit)[:, None])
    if problem is not None:
        if problem not in times.problems:
            raise ValueError(
                f"compare needs one of the problems {reading.listed(times.problems, 12)}, got "
                f"problem={problem!r}."
            )
        if over == "problems":
            raise ValueError("compare needs over='seeds' within a problem, got over='problems'.")
        return logs[:, times.problems.index(problem)]
    # Flips within problems: a sign a seed of each problem. Over problems: one sign a problem.
    return logs.mean(axis=-1) if over == "problems" else logs.reshape(len(logs), -1)


def needed(num_tests: int, alpha: float) -> int:
    """Return the least number of differences with which any of several tests can reject."""
    return int(np.ceil(1 + np.log2(num_tests / alpha) - 1e-9))


def _notes(paired: np.ndarray, alpha: float, one: str, more: str) -> tuple[str, ...]:
    """Say what no outcome could have decided."""
    num_tests, count = paired.shape
    if num_tests == 0:
        return ("One optimizer alone has nobody to be compared with.",)
    notes, pairs = [], reading.counted(num_tests, "pair")
    flips = lambda number: reading.counted(number, one) + more
    smallest = smallest_p_value(count)
    if num_tests * smallest > alpha:
        notes.append(
            f"No pair can be told apart, whatever the times: with {flips(count)} p >= "
            f"{smallest:.2g}, and for {pairs} that is {min(1, num_tests * smallest):.2g} "
            f"> {alpha:g}; {flips(needed(num_tests, alpha))} would do."
        )
    tied = int(np.sum(~np.any(paired != 0, axis=-1)))
    if tied:
        notes.append(
            f"{tied} of {pairs} {'has' if tied == 1 else 'have'} the same times or never "
            "reach a target: undecidable."
        )
    few = np.sum(paired != 0, axis=-1)
    hopeless = (few > 0) & (num_tests * 2.0 ** (1 - few) > alpha)
    if num_tests * smallest <= alpha and np.any(hopeless):
        number = int(hopeless.sum())
        differ = "differs" if number == 1 else "differ"
        notes.append(f"{number} of {pairs} {differ} on too few {one}s{more} to be decided.")
    return tuple(notes)
