"""One step of the outer optimization, with the inner one continued from where it was."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxopt_tut import programs
from jaxopt_tut.bilevel.doubts import warn_of_doubts
from jaxopt_tut.bilevel.hypergrad import differentiate
from jaxopt_tut.bilevel.modes.mode import DiffMode, Hypergradient, Names, OuterFn
from jaxopt_tut.bilevel.pose import Pose
from jaxopt_tut.bilevel.problem import InnerFn
from jaxopt_tut.bilevel.result import Info
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.blocks import shown
from jaxopt_tut.losses import differentiated_by
from jaxopt_tut.optimizers.inner import take_step
from jaxopt_tut.trees import strong
from jaxopt_tut.types import Batch, Optimizer, Params, PyTree, ScalarOrSchedule


@shown
class BilevelState(NamedTuple):
    """Where both optimizations have come to.

    Attributes:
      y: The inner variables, from which the next inner run starts.
      z: What the inner problem depends on.
      hp: The inner solver's hyper-parameters.
      outer_state: The outer optimizer's state.
      count: Outer steps taken.
    """

    y: Params
    z: PyTree
    hp: PyTree
    outer_state: PyTree
    count: Int[Array, ""]


@shown
class BilevelStep(NamedTuple):
    """A pair of functions: `init(y0, z, hp=None)` and `update(state, batch=None)`."""

    init: Callable[..., BilevelState]
    update: Callable[..., tuple[BilevelState, Info]]


def bilevel_step(
    outer: OuterFn,
    f: InnerFn,
    *,
    solver: SolverLike,
    steps: int,
    diff: DiffMode,
    outer_optimizer: Optimizer,
    wrt: Names = ("z",),
    tol: ScalarOrSchedule | None = None,
) -> BilevelStep:
    r"""Build the alternation of inner steps and one outer step.

    $$y_{k+1} = \mathrm{argmin}(f(\cdot, z_k);\ y_k,\ \epsilon_k), \qquad
    z_{k+1} = z_k + u\Big(\frac{dE(y_{k+1}, z_k)}{dz}\Big)$$

    The inner run starts where the last one ended (a *warm start*), so that few steps keep up with
    a slowly moving $z$; a decreasing tolerance, with $\sum_k \epsilon_k$ finite, makes implicit
    gradients exact in the limit. `update` may be compiled, scanned and vmapped over problems.

    Args:
      outer: `outer(y, z)`, or `outer(y, z, batch)` if `update` is given a batch; what either
        function returns beside a loss is dropped.
      f: `f(y, z)`, or `f(y, z, batch)` with the same batch in every inner step.
      solver: An optax transformation, a function of `hp` that returns one, or a `Solver`.
      steps: Inner steps at most in each outer step.
      diff: The mode of differentiation.
      outer_optimizer: Any optax transformation, for the dictionary of what `wrt` names.
      wrt: What to learn: `"z"`, `"hp"`, and `"y0"`, which then is the start of every inner run.
      tol: Residual at which the inner run stops: a number or a function of the outer count.

    Returns:
      `init` and `update`.

    Example:
      The inner variable follows `z`, the outer loss pulls it to 3.

      >>> import optax
      >>> from jaxopt_tut.bilevel import Implicit
      >>> from jaxopt_tut.optimizers import sgd
      >>> step = bilevel_step(lambda y, z: (y - 3.0) ** 2, lambda y, z: (y - z) ** 2,
      ...                     solver=sgd(0.4), steps=5, diff=Implicit(), outer_optimizer=sgd(0.3))
      >>> state = step.init(0.0, 0.0)
      >>> for _ in range(20):
      ...     state, info = step.update(state)
      >>> print(f"{state.z:.3f} {state.y:.3f}")
      3.000 3.000

    References:
      Pedregosa (2016), algorithm 1 and theorem 1. https://arxiv.org/abs/1602.02355
    """
    pose = Pose(caller="hypergrad", f=f, solver=solver, steps=steps, diff=diff)

    def init(y0: Params, z: PyTree, hp: PyTree = None) -> BilevelState:
        y0, z, hp = strong((y0, z, hp))
        values = {"y0": y0, "z": z, "hp": hp}
        learned = {name: values[name] for name in wrt}
        return BilevelState(y0, z, hp, outer_optimizer.init(learned), jnp.zeros((), jnp.int32))

    def update(state: BilevelState, batch: Batch = None) -> tuple[BilevelState, Info]:
        made_of = outer, pose, outer_optimizer, tuple(wrt)
        limit = tol(state.count) if callable(tol) else tol
        after, info = programs.run(_update, made_of, state, batch, limit)
        # a warm start is to converge in the end only, and its doubts are as many as its steps
        warn_of_doubts(info, "bilevel_step", needs_optimum=False)
        return after, info

    return BilevelStep(init, update)


def _update(
    made_of: tuple, state: BilevelState, batch: Batch, tol: Any
) -> tuple[BilevelState, Info]:
    outer, pose, outer_optimizer, wrt = made_of
    pose = replace(pose, y0=state.y, z=state.z, hp=state.hp, tol=tol)
    if batch is not None:
        f, outer_fn = pose.f, outer
        pose = replace(pose, f=lambda y, z: f(y, z, batch))
        outer = lambda y, z: outer_fn(y, z, batch)
    learned = {name: getattr(pose, name) for name in wrt}

    def look(learned: dict[str, PyTree]) -> tuple[Hypergradient, Info]:
        return differentiate(outer, replace(pose, **learned), wrt)

    def value_and_grad(learned: dict[str, PyTree]) -> tuple[Any, Any]:
        found, _ = look(learned)
        return found.value, found.grads

    found, info = look(learned)
    ascent = optax.tree.conj(found.grads)  # differs for complex parameters
    after = take_step(
        "bilevel_step",
        outer_optimizer,
        differentiated_by(value_and_grad),
        learned,
        state.outer_state,
        known=(found.value, ascent),
    )
    moved = {"y0": found.run.y, "z": state.z, "hp": state.hp, **after.params}
    count = state.count + 1
    return BilevelState(moved["y0"], moved["z"], moved["hp"], after.state, count), info
