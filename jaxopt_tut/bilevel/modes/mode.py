"""What every mode of differentiation is."""

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.types import PyTree


class LinearInfo(NamedTuple):
    """How good the solution of a linear system is; `None` where the solve cannot tell.

    Attributes:
      residual: As in `Info`, as are the next two.
      iterations: As there.
      is_definite: As there.
      is_solved: Whether the residual is small; `None` where none is asked for.
    """

    residual: Float[Array, ""] | None = None
    iterations: Int[Array, ""] | None = None
    is_definite: Bool[Array, ""] | None = None
    is_solved: Bool[Array, ""] | None = None


class Hypergradient(NamedTuple):
    """The outer value, its derivatives by argument, the inner run, and how good the solve was."""

    value: Float[Array, ""]
    grads: dict[str, PyTree]
    run: Run
    linear: LinearInfo
    error_estimate: Float[Array, ""] | None = None


@runtime_checkable
class Mode(Protocol):
    """A way to differentiate an inner solution.

    Attributes:
      derivatives: Which of `"jvp"`, `"vjp"` and `"second"` the mode defines; the last is the
        derivative of the first derivative.
      wrt: With respect to which of `"z"`, `"hp"` and `"y0"`.
      is_exact: Whether the derivative is that of the very steps taken.
    """

    derivatives: ClassVar[frozenset[str]]
    wrt: ClassVar[frozenset[str]]
    is_exact: ClassVar[bool]

    def chosen(self, problem: Problem, inputs: Inputs) -> "Mode":
        """Return the mode that does the work: itself, but for a plan."""
        ...

    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Solve, differentiably."""
        ...

    def hypergrad(
        self,
        outer: Callable[[PyTree, PyTree], Array],
        problem: Problem,
        inputs: Inputs,
        wrt: Sequence[str],
        certify: bool,
    ) -> Hypergradient:
        """Return the outer value and its derivatives."""
        ...

    def num_bytes(self, problem: Problem, inputs: Inputs) -> int:
        """Estimate what is kept from the inner steps for the derivative."""
        ...
