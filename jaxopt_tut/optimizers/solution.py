"""What `minimize` returns."""

import dataclasses
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import Block, brief, numbers
from jaxopt_tut.optimizers.scipy_words import no_attribute
from jaxopt_tut.optimizers.solution_block import Rows, history_block, solution_block
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.types import DTypeLike, Params

Numbers = TypeAliasType("Numbers", Float[Array, "*batch"])
"""A real number a search."""

Flags = TypeAliasType("Flags", Bool[Array, "*batch"])
"""A truth value a search."""

Counts = TypeAliasType("Counts", Int[Array, "*batch"])
"""A whole number a search."""

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult
else:
    OptimizeResult = dict  # which it is: SciPy is imported by who asks for one

RUNNING = -1
GRADIENT = 0
VALUE = 1
STEP = 2
MAX_STEPS = 3
FAILED = 4
NON_FINITE = 5
NON_FINITE_START = 6
STUCK = 7
UNBOUNDED = 8
ASKED = 9
VANISHED = 10
ORTHOGONAL = 11
EMPTY_BOX = 12

_MESSAGES = {
    RUNNING: "The search has not ended.",
    GRADIENT: "Converged: no component of the gradient is larger than gtol.",
    VALUE: "Converged: the value changed by no more than ftol.",
    STEP: "Converged: no parameter moved by more than xtol.",
    MAX_STEPS: "Stopped: max_steps steps were made before the gradient was small.",
    FAILED: "Stopped: twice in a row no lower point was found along the direction of search.",
    NON_FINITE: "Stopped: a value or a gradient was not finite; the best point is returned.",
    NON_FINITE_START: "Stopped: the value or the gradient is not finite at the start.",
    UNBOUNDED: "Stopped: the value falls and falls, as if there were no minimum.",
    ASKED: "Stopped: the callback asked for it.",
    VANISHED: "Stopped: the residuals, not yet 0, no longer depend on one of the parameters.",
    ORTHOGONAL: "Converged: the residuals are orthogonal to their derivatives, up to rounding.",
    EMPTY_BOX: "Stopped: a lower bound is above the upper one, or a bound is not a number.",
    STUCK: "Stopped: no step moves any more, but the projected gradient is larger than gtol.",
}


def sentence(code: Any) -> str:
    """Return the sentence of one code."""
    return _MESSAGES.get(int(code), f"No status has the code {code}.")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Status:
    """Why a search ended: an integer that can explain itself.

    Attributes:
      code: 0, 1, 2 for convergence (in the gradient, the value, the step); 3 for `max_steps`, 4
        for a failed step, 5 and 6 for a value or a gradient that is not finite, on the way and
        at the start; 7 for projected steps that stand still before a minimum, 8 for a value that
        falls without end, 9 where a callback asked to stop; of a fit, 10 for a parameter that has
        lost its hold on the residuals, 11 for convergence in all that the parameters can change; 12
        for bounds with nothing between them. A batch of searches has a batch of codes.
    """

    code: Counts

    @property
    def message(self) -> str | list:
        """The code in words: a sentence, or a list of them for a batch."""
        codes = np.asarray(self.code)
        sentences = np.array([sentence(code) for code in codes.ravel()], object)
        return sentences.reshape(codes.shape).tolist() if codes.ndim else sentences[0]

    def __repr__(self) -> str:
        """Return the code and the sentence, or the codes of a batch."""
        codes = numbers(self.code)
        words = "" if codes is None or codes.ndim else f", {sentence(codes)!r}"
        return f"Status({brief(self.code)}{words})"

    def __int__(self) -> int:
        """Return the code of a single search."""
        return int(self.code)

    __index__ = __int__

    def __eq__(self, other: object) -> Any:
        """Compare codes, elementwise for a batch."""
        return self.code == (other.code if isinstance(other, Status) else other)

    def __ne__(self, other: object) -> Any:
        """Compare codes, elementwise for a batch."""
        return self.code != (other.code if isinstance(other, Status) else other)

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Return the codes as NumPy."""
        return np.array(self.code, dtype=dtype, copy=copy)

    def __getitem__(self, index: Any) -> "Status":
        """Return the status of some searches of a batch."""
        return Status(self.code[index])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class History(Block):
    """Every point a search visited, the start first.

    Under `jax.jit` and `jax.vmap` there are `max_steps + 1` rows; those after the last step repeat
    its end.

    Attributes:
      params: Parameters, with a leading axis of length `steps + 1` on each leaf.
      value: Values.
      grad_norm: Largest absolute components of the (projected) gradient.
    """

    params: Params
    value: Float[Array, "*batch num_points"]
    grad_norm: Float[Array, "*batch num_points"]

    def _block(self) -> tuple[str, Rows]:
        """Return the numbers at the ends."""
        return history_block(self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Solution(Block):
    """Where `minimize` ended, and why.

    Attributes:
      params: The last point, or the best if something was not finite.
      value: The value there.
      grad_norm: The largest absolute component of the gradient there; under bounds or behind a
        projection $P$, of the projected gradient $w - P(w - g)$.
      converged: Whether a tolerance was met.
      status: An integer whose `message` is a sentence.
      steps: Steps made.
      evaluations: How often the value and its gradient were evaluated together.
      history: The `steps + 1` points visited, if asked for; more rows under `jax.jit`.
      aux: The auxiliary values of the loss at the end, if it has any.
      active: Which bounds hold, in a tree like the parameters: -1 at a lower bound, 1 at an upper
        one, 2 where both are one number, 0 between them; `None` without bounds.
      start_was_outside: Whether the start had to be moved into the bounds; `None` without any.
    """

    params: Params
    value: Numbers
    grad_norm: Numbers
    converged: Flags
    status: Status
    steps: Counts
    evaluations: Counts
    history: History | None
    aux: Any = None
    active: Params = None
    start_was_outside: Flags | None = None

    def _block(self) -> tuple[str, Rows]:
        """Return what is worth reading."""
        return solution_block(self, sentence)

    if not TYPE_CHECKING:  # which shall see what there is

        def __getattr__(self, name: str) -> NoReturn:
            """Refuse what there is not, and answer SciPy's names by those that there are."""
            raise no_attribute("Solution", name)

    @property
    def message(self) -> str | list:
        """Why the search ended: a sentence, or a list of them for a batch."""
        return self.status.message

    def to_scipy(self) -> "OptimizeResult":
        """Return the solution as SciPy's solvers do.

        Returns:
          A `scipy.optimize.OptimizeResult`; its `x` lays the parameters end to end.

        Example:
          >>> from jaxopt_tut.optimizers import lbfgs, minimize
          >>> solution = minimize(lambda w: (w - 2.0) ** 2, 0.0, lbfgs())
          >>> result = solution.to_scipy()
          >>> result.x.round(3), result.success, result.status
          (array([2.], dtype=float32), True, 0)
        """
        from scipy.optimize import OptimizeResult

        leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(self.params)]
        return OptimizeResult(
            x=np.concatenate(leaves),
            fun=float(self.value),
            success=bool(self.converged),
            status=int(self.status),
            message=self.message,
            nit=int(self.steps),
            nfev=int(self.evaluations),
            njev=int(self.evaluations),
        )


def trimmed(solution: Solution) -> Solution:
    """Cut the rows of a history that repeat its end, where it is known how many they are."""
    if is_traced(solution.steps) or solution.steps.ndim:
        return solution
    rows = int(solution.steps) + 1

    def cut(leaf: Array) -> Array:
        if is_traced(leaf) or len(leaf.devices()) > 1:
            return leaf[:rows]
        # on the host, as a program for each number of rows would be compiled
        return jax.device_put(np.asarray(leaf)[:rows], leaf.sharding)

    return dataclasses.replace(solution, history=jax.tree.map(cut, solution.history))
