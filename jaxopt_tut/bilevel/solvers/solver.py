"""The base of all solvers: what each declares, and what most of them share."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.blocks import shown
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import ravel

Stepped = tuple[Params, PyTree, Float[Array, ""]]
"""The next point and state, and the residual's size at the point given."""


@shown
class Objective(NamedTuple):
    """The inner function of one step: `objective(y)` is `fun(y, *args)`.

    Attributes:
      fun: `f` itself, or its mean over the batches.
      args: `(z,)`, `(z, batch)` or `(z, batches)`.

    Example:
      >>> Objective(lambda y, z: (y - z) ** 2, (3.0,))(5.0)
      4.0
    """

    fun: Callable[..., Any]
    args: tuple

    def __call__(self, y: Params) -> Any:
        """Return the value at `y`."""
        return self.fun(y, *self.args)


@runtime_checkable
class Solver(Protocol):
    """A rule that moves the inner variables towards a solution, and says what a solution is.

    A solver of one's own inherits from this class, and then overrides what is its own: it has to
    say how it steps; if nothing else, it minimises, and its residual is the gradient. Or it is any
    class with these names.

    Attributes:
      is_whole: Whether one `step` is the whole solve, and sees the mean of all batches.
      is_differentiable: Whether modes that differentiate steps can go through it.
    """

    is_whole: ClassVar[bool] = False
    is_differentiable: ClassVar[bool] = True

    @property
    def is_symmetric(self) -> bool:
        """Whether the derivative of `residual` in `y` is symmetric, as that of a gradient is."""
        return True

    def bounded(self, steps: int, tol: Any) -> "Solver":
        """Return the solver with the limits that `argmin` was given: itself if the loop does."""
        del steps, tol
        return self

    def init(self, y: Params, hp: PyTree) -> PyTree:
        """Return the state before the first step: none."""
        del y, hp
        return ()

    @abstractmethod
    def step(self, objective: Objective, y: Params, state: PyTree, hp: PyTree) -> Stepped:
        """Return the next `y` and state, and the residual's size at the `y` given."""

    def residual(self, objective: Objective, y: Params, hp: PyTree) -> PyTree:
        """Return a tree like `y`, which is zero at a solution: the gradient."""
        del hp
        return value_and_ascent(objective)(y)[1]


def size_of(tree: PyTree) -> Float[Array, ""]:
    """Return the largest absolute component of a tree."""
    return jnp.max(jnp.abs(ravel(tree)[0]), initial=0.0)
