"""What `fit` returns."""

import dataclasses

import jax

from jaxopt_tut.blocks import shown
from jaxopt_tut.training.history import History
from jaxopt_tut.training.showing import fit_block
from jaxopt_tut.types import Params, PyTree


@shown
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class FitResult:
    """A trained model and how it came about.

    Attributes:
      params: The last parameters; if training stopped, those before the step that failed.
      opt_state: The optimizer's last state, to go on with in `fit(..., opt_state=)`.
      history: Losses and metrics.
      best: The parameters of the epoch with the best score; the last ones without `evaluate`.
      model_state: The model's last state; None for a loss without state.
      best_model_state: The state that belongs to `best`.
      best_epoch: The epoch of `best`, counted from 1; 0 are the initial parameters.
      best_score: Its score; NaN without `evaluate`.
      finite: False if training stopped because a loss, a gradient, the parameters after an update
        or a model state was not finite.
      message: One sentence on how training ended.
      resumed_from: The step after which the run was taken up from a checkpoint; None if it began.
      warnings: What went wrong with checkpoints while training went on.
    """

    params: Params
    opt_state: PyTree
    history: History
    best: Params
    model_state: PyTree
    best_model_state: PyTree
    best_epoch: int
    best_score: float
    finite: bool
    message: str = dataclasses.field(metadata={"static": True})
    resumed_from: int | None = dataclasses.field(default=None, metadata={"static": True})
    warnings: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return how training ended, and its numbers."""
        return fit_block(self)
