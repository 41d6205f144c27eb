"""What a race returns."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float, Int

__all__ = ["RaceTable"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RaceTable:
    """Losses of every optimizer on every problem, at every learning rate and seed.

    Optimizers may have different numbers of rates: the rows of those with fewer end in rates that
    are NaN, whose losses are inf. A run that diverged has losses of inf from there on, so a target
    is never reached by it, and no loss is NaN.

    Attributes:
      optimizers: Names, in the order of the first axis.
      problems: Names, in the order of the second axis.
      learning_rates: In the order in which they were given, NaN where an optimizer has fewer.
      seeds: What tells the starts and batches apart; the same for all optimizers and rates.
      steps: How many updates came before each evaluation, increasing.
      losses: The loss that is judged: over the problem's validation data where it has some.
      training_losses: The mean loss over the batches since the evaluation before.
      targets: The loss at which a problem counts as solved.
      seconds_per_step: Of one run alone, timed apart from the others; times in seconds are steps
        times these.
      default_rates: The index of each optimizer's default rate in its row, -1 where none is known.
    """

    optimizers: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    problems: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    learning_rates: Float[np.ndarray, "optimizers rates"]
    seeds: Int[np.ndarray, " seeds"]
    steps: Int[np.ndarray, " evaluations"]
    losses: Float[np.ndarray, "optimizers problems rates seeds evaluations"]
    training_losses: Float[np.ndarray, "optimizers problems rates seeds evaluations"]
    targets: Float[np.ndarray, " problems"]
    seconds_per_step: Float[np.ndarray, "optimizers problems"]
    default_rates: Int[np.ndarray, " optimizers"]
