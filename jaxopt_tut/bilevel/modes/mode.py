"""The base of all modes of differentiation: what each declares, and what most of them share."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import optax
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.bilevel.modes.memory import bytes_of_run
from jaxopt_tut.bilevel.modes.refusal import guarded_run
from jaxopt_tut.bilevel.modes.reversible import irreversible, is_reversible
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.losses import is_real_scalar, value_part
from jaxopt_tut.types import PyTree
from jaxopt_tut.vectors import ravel

OuterFn = TypeAliasType("OuterFn", Callable[..., Any])
"""`outer(y, z)`: a real scalar, or a pair of one and what is dropped."""

Grads = TypeAliasType("Grads", dict[str, PyTree])
"""Derivatives by the name of the argument."""


class LinearInfo(NamedTuple):
    """How good the solution of a linear system is; `None` where the solve cannot tell.

    Attributes:
      residual: Relative to the right-hand side.
      iterations: Products with the matrix.
      is_definite: Whether no direction was met in which the matrix is not positive.
      is_solved: Whether the residual is small; `None` where none is asked for.
    """

    residual: Float[Array, ""] | None = None
    iterations: Int[Array, ""] | None = None
    is_definite: Bool[Array, ""] | None = None
    is_solved: Bool[Array, ""] | None = None


class Hypergradient(NamedTuple):
    """The outer value, its derivatives by argument, the inner run, and how good the solve was."""

    value: Float[Array, ""]
    grads: Grads
    run: Run
    linear: LinearInfo
    error_estimate: Float[Array, ""] | None = None


@runtime_checkable
class Mode(Protocol):
    """A way to differentiate an inner solution.

    A mode of one's own inherits from this class, and then overrides what is its own: it has to say
    how it runs, and all else follows for one that reverse mode goes through. Or it is any class
    with these names. What it does not declare raises where it is asked for. It may also have
    `needs_optimum`, whether the derivative means nothing where the run has not converged, and
    `zero_safe`, as `Unroll` has it.

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
        del problem, inputs
        return self

    @abstractmethod
    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Solve, differentiably."""

    def hypergrad(
        self,
        outer: OuterFn,
        problem: Problem,
        inputs: Inputs,
        wrt: Sequence[str],
        certify: bool,
    ) -> Hypergradient:
        """Return the outer value and its derivatives, in reverse mode where it goes."""
        # there is nothing to estimate, or a Newton step says nothing about the error
        del certify
        goes_backwards = "vjp" in self.derivatives
        if goes_backwards and not is_reversible(problem, inputs):
            raise ValueError(irreversible(problem, self))

        def value(chosen: dict[str, PyTree]) -> tuple[Array, tuple[Array, Run]]:
            replaced = inputs._replace(**chosen)
            run = guarded_run(problem, self, replaced)
            result = value_of(outer, run.y, replaced.z)
            return result, (result, run)

        chosen = {name: getattr(inputs, name) for name in wrt}
        if goes_backwards:
            grads, (result, run) = jax.grad(value, has_aux=True)(chosen)
            return Hypergradient(result, grads, run, LinearInfo())
        # one tangent for each number
        flat, unravel = ravel(chosen)
        along = lambda flat: value(unravel(flat))
        gradient, (result, run) = jax.jacfwd(along, has_aux=True)(flat)
        # as `jax.grad` has it for complex numbers
        grads = optax.tree.conj(unravel(gradient))
        return Hypergradient(result, grads, run, LinearInfo())

    def num_bytes(self, problem: Problem, inputs: Inputs) -> int:
        """Estimate what is kept from the inner steps for the derivative: the end of the run."""
        return bytes_of_run(problem, inputs)


DiffMode = TypeAliasType("DiffMode", Mode)
"""Any mode: `Unroll()`, `Implicit()`, or one's own."""

Names = TypeAliasType("Names", Sequence[str])
"""Some of `"z"`, `"hp"` and `"y0"`."""


def value_of(outer: OuterFn, y: PyTree, z: PyTree) -> Float[Array, ""]:
    """Evaluate the outer function and refuse what is no real scalar."""
    value = value_part(outer(y, z))
    if not is_real_scalar(value):
        raise ValueError(f"hypergrad needs outer to return a real scalar, got {jax.typeof(value)}.")
    return value
