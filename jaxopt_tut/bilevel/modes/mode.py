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
from jaxopt_tut.blocks import shown
from jaxopt_tut.losses import is_real_scalar, value_part
from jaxopt_tut.types import PyTree
from jaxopt_tut.vectors import ravel

OuterFn = TypeAliasType("OuterFn", Callable[..., Any])
"""`outer(y, z)`: a real scalar, or a pair of one and what is dropped."""

Grads = TypeAliasType("Grads", dict[str, PyTree])
"""Derivatives by the name of the argument."""


@shown
class LinearInfo(NamedTuple):
    """How good the solution of a linear system is; `None` where the solve cannot tell.

    Attributes:
      residual: Relative to the right-hand side.
      iterations: Products with the matrix.
      is_definite: Whether no direction was met in which the matrix is not positive.
      is_solved: Whether the residual is small; `None` where none is asked for.

    Example:
      >>> LinearInfo().residual is None  # a mode that solves no system
      True
    """

    residual: Float[Array, ""] | None = None
    iterations: Int[Array, ""] | None = None
    is_definite: Bool[Array, ""] | None = None
    is_solved: Bool[Array, ""] | None = None


@shown
class Hypergradient(NamedTuple):
    """What `Mode.hypergrad` returns: value, derivatives, and how good they are.

    Attributes:
      value: That of the outer function.
      grads: Its derivatives by name of the argument, each like that argument.
      run: The inner run that led there.
      linear: How good the solution of the linear system is, where one is solved.
      error_estimate: By how much the derivative may be wrong, where it was asked for.

    Example:
      >>> import jax.numpy as jnp
      >>> run = Run(y=1.0, state=(), steps=jnp.array(1), is_done=None)
      >>> Hypergradient(jnp.array(2.0), {"z": 3.0}, run, LinearInfo()).grads
      {'z': 3.0}
    """

    value: Float[Array, ""]
    grads: Grads
    run: Run
    linear: LinearInfo
    error_estimate: Float[Array, ""] | None = None


@runtime_checkable
class Mode(Protocol):
    """A way to differentiate an inner solution: what `argmin` and `hypergrad` take as `diff=`.

    A mode of one's own inherits from this class, declares what it defines, and overrides what is
    its own. The contract:

    * It is hashable and compares by value, as a frozen dataclass does: programs are found again
      by it. It holds no arrays.
    * `run(problem, inputs)` solves, and JAX's derivative of its result *is* the derivative that the
      mode stands for. It takes the steps of `problem`, a `Problem`, on `inputs`, an `Inputs`, and
      returns a `Run`. It works under `jit` and `vmap`.
    * `derivatives` and `wrt` say what of that derivative means something. All else raises where it
      is asked for, and is never 0: `argmin` sees to it, the mode does not have to.
    * `is_exact` says that the derivative is that of the very steps taken, so that it needs no
      convergence. Where it is false, `info.converged` counts.
    * `hypergrad`, `num_bytes` and `chosen` follow from these. Override `hypergrad` where there is a
      shorter way than through `run`, and return a `Hypergradient`.

    Or it is any class with these names. It may also have `needs_optimum`, whether the derivative
    means nothing where the run has not converged, and `zero_safe`, as `Unroll` has it.

    Attributes:
      derivatives: Which of `"jvp"`, `"vjp"` and `"second"` the mode defines; the last is the
        derivative of the first derivative.
      wrt: With respect to which of `"z"`, `"hp"` and `"y0"`.
      is_exact: Whether the derivative is that of the very steps taken.

    Example:
      >>> from dataclasses import dataclass
      >>> import optax
      >>> from jaxopt_tut.bilevel import argmin
      >>> @dataclass(frozen=True)
      ... class PythonLoop(Mode):
      ...     derivatives = frozenset({"jvp", "vjp", "second"})
      ...     wrt = frozenset({"z", "hp", "y0"})
      ...     is_exact = True
      ...     def run(self, problem, inputs):
      ...         run = problem.start(inputs)
      ...         for index in range(problem.num_steps):
      ...             run = problem.advance(inputs, run, index)
      ...         return run
      >>> f = lambda y, z: 0.5 * (y - z) ** 2
      >>> options = dict(solver=optax.sgd(0.5), steps=2, diff=PythonLoop())
      >>> print(jax.grad(lambda z: argmin(f, 0.0, z, **options).y)(1.0))  # 1 - 0.5^2
      0.75

    References:
      Griewank, Walther (2008), Evaluating Derivatives, chapters 3 and 15, for what of a derivative
      a mode may keep or solve for. https://doi.org/10.1137/1.9780898717761
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
        """Solve, differentiably.

        Args:
          problem: What is solved; it takes the steps.
          inputs: The values, which may be tracers.

        Returns:
          Where the steps have come to.
        """

    def hypergrad(
        self,
        outer: OuterFn,
        problem: Problem,
        inputs: Inputs,
        wrt: Sequence[str],
        certify: bool,
    ) -> Hypergradient:
        """Return the outer value and its derivatives, in reverse mode where it goes.

        Args:
          outer: `outer(y, z)`.
          problem: What is solved.
          inputs: The values.
          wrt: With respect to which of them, as declared.
          certify: Whether an estimate of the error is asked for.

        Returns:
          Value, derivatives, the run, and how good they are.

        Raises:
          ValueError: If reverse mode is declared and does not go through the solver.
        """
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
            try:
                grads, (result, run) = jax.grad(value, has_aux=True)(chosen)
            except ValueError as error:
                if "Reverse-mode differentiation does not work" not in str(error):
                    raise
                raise ValueError(
                    f"{problem.caller} needs {type(self).__name__}.run to go backwards, as "
                    "derivatives with 'vjp' declares, got a loop of unknown length, such as "
                    "problem.run: take the steps by problem.advance, in a scan over "
                    "jnp.arange(problem.num_steps)."
                ) from error
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
