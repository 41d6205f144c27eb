"""What it means to have arrived: the gradient, or the projected one where a chain has a projection.

A link may stretch its steps by a metric of its own. Behind a projection that moves the fixed
points: $w = P(w - D g)$ is the condition of a minimum on any set if $D$ is a number, on a box also
if $D$ is diagonal, and on no set but special ones otherwise. The class of a link's state declares
it: `metric = "diagonal"` or `metric = "dense"`; without the attribute, steps count as multiples of
the gradient.
"""

import functools
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.optimizers.projecting import Projection
from jaxopt_tut.types import Optimizer, Params, PyTree


def stationarity(optimizer: Optimizer, params: Params, grad: PyTree) -> PyTree:
    r"""Return what is zero exactly where descent has arrived.

    $$r(w) = w - P(w - g), \qquad r(w) = g \ \text{without a projection}$$

    with $P$ from `project` in the optimizer's chain (`optax.keep_params_nonnegative` is one, too);
    several are applied one after the other. It
    is what `minimize` compares with `gtol`, and what implicit derivatives differentiate. For loops
    of one's own, which no one else can tell that they stand still at the wrong place: it also
    refuses an optimizer whose projected steps do so. Costs a projection.

    Args:
      optimizer: Any optax transformation.
      params: $w$, where to look.
      grad: $g$ there: a tree like `params`; for complex ones the conjugate of `jax.grad`'s.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: If a link before the projection has a metric that it does not allow, or if the
        projection is hidden in a link that is no plain chain (`optax.masked`,
        `optax.inject_hyperparams`).

    Example:
      The gradient pushes the second coordinate over its bound: there is nothing left to do.

      >>> import jax.numpy as jnp, optax
      >>> from jaxopt_tut.optimizers import project, projections, sgd
      >>> optimizer = optax.chain(sgd(0.1), project(projections.box(0.0, 1.0)))
      >>> print(stationarity(optimizer, jnp.array([0.5, 1.0]), jnp.array([0.25, -4.0])))
      [0.25 0.  ]

    References:
      Bertsekas (1999), Nonlinear programming, proposition 2.3.2.
    """
    projection = constraint("stationarity", optimizer, jax.eval_shape(optimizer.init, params))
    return projected_gradient(projection, params, grad)


def constraint(
    caller: str, optimizer: Optimizer, state: PyTree, *, strict: bool = True
) -> Projection | None:
    """Read the projections out of an optimizer, and refuse links that don't go with them.

    One that cannot be read is refused, too, if `strict`, and overlooked otherwise.
    """
    links = list(_links(state))
    found = projections_of(optimizer)
    scopes = [scope for scope, link in links if isinstance(link, ProjectState)]
    # optax's own leaves no state to be found by, so that a mask anywhere may be its
    is_masked = any(isinstance(link, optax.MaskedState) for _, link in links)
    scopes += [(0,) if is_masked else ()] * sum(onto is _nonnegative for onto in found)
    if not scopes:
        return None
    is_box = not any(getattr(projection, "is_separable", True) is False for projection in found)
    for scope, link in links:
        metric = _metric(link)
        meets = any(scope[: len(other)] == other[: len(scope)] for other in scopes)
        if meets and (metric == "dense" or (metric == "diagonal" and not is_box)):
            raise ValueError(_refusal(caller, link, metric))
    if len(found) == len(scopes) and not any(scopes):
        return lambda tree: functools.reduce(lambda x, onto: onto(x), found, tree)
    if strict:
        raise ValueError(
            f"{caller} needs project(...) as a link of optax.chain, got it inside of a link such "
            "as optax.masked or optax.inject_hyperparams, where it cannot be read."
        )
    return None


def projections_of(optimizer: Optimizer) -> list[Projection]:
    """List the projections that an optimizer closes over, in the order of its links."""
    things = _closed_over(getattr(optimizer, "update", None))
    functions = (thing for thing in things if isinstance(thing, types.FunctionType))
    return [found for f in functions if (found := _projection(f)) is not None]


def _projection(update: types.FunctionType) -> Projection | None:
    if update.__qualname__ == f"{optax.keep_params_nonnegative.__name__}.<locals>.update_fn":
        return _nonnegative
    return vars(update).get("projection")


def _nonnegative(tree: PyTree) -> PyTree:
    return jax.tree.map(jax.nn.relu, tree)


def closed_arrays(optimizer: Optimizer) -> list[jax.Array]:
    """List the arrays and tracers that an optimizer closes over."""
    things = _closed_over(getattr(optimizer, "update", None))
    return [thing for thing in things if isinstance(thing, jax.Array)]


class ProjectState(NamedTuple):
    """The state of `project`: nothing, but it can be told from others."""


def projected_gradient(projection: Projection | None, params: Params, grad: PyTree) -> PyTree:
    r"""Return the tree that is zero at a stationary point.

    $$r(w) = w - P(w - g)$$

    The difference has lost digits where $g$ is small beside $w$; where $P$ changes nothing it is
    $g$ itself.
    """
    if projection is None:
        return grad
    minus = lambda a, b: jnp.asarray(a) - jnp.asarray(b)
    ahead = jax.tree.map(minus, params, grad)
    target = projection(ahead)
    residual = jax.tree.map(minus, params, target)
    exact = jax.tree.map(lambda a, p, g, r: jnp.where(a == p, g, r), ahead, target, grad, residual)
    lost = jax.lax.stop_gradient(jax.tree.map(minus, exact, residual))
    return jax.tree.map(jnp.add, residual, lost)


def _metric(state: Any) -> str | None:
    declared = getattr(type(state), "metric", None)
    if isinstance(declared, str) or not isinstance(state, tuple):
        return declared
    if isinstance(state, _DENSE):
        return "dense"
    has_second_moment = hasattr(state, "nu")  # as optax names it
    return "diagonal" if has_second_moment or isinstance(state, _DIAGONAL) else None


# what optax's rules cannot declare themselves
_DENSE = (optax.ScaleByLBFGSState, optax.contrib.MuonState, optax.contrib.GaLoreState)
_DIAGONAL = (
    optax.FactoredState,
    optax.ScaleByAdaDeltaState,
    optax.ScaleByLionState,
    optax.ScaleByRpropState,
    optax.ScaleByRssState,
    optax.ScaleBySM3State,
    optax.contrib.SophiaState,
)


def _links(state: PyTree, scope: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """List the states within a state, each with the masks that it lies under."""
    yield scope, state
    if isinstance(state, optax.MaskedState):
        scope = (*scope, id(state))
    for item in _items(state):
        yield from _links(item, scope)


def _items(thing: Any) -> Iterable[Any]:
    if isinstance(thing, Mapping):
        return thing.values()
    return thing if isinstance(thing, tuple | list) else ()


def _closed_over(thing: Any, outer: tuple[int, ...] = ()) -> Iterator[Any]:
    """List a function and all that it closes over, in the order of its cells."""
    if id(thing) in outer:
        return
    yield thing
    for part in _parts(thing):
        yield from _closed_over(part, (*outer, id(thing)))


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, optax.GradientTransformation):
        return (thing.update,)
    # functions and methods, or what stands for one in a program
    if hasattr(thing, "__closure__") and hasattr(thing, "__self__"):
        return list(getattr(thing.__self__, "__dict__", {}).values())
    if hasattr(thing, "__closure__"):
        return [part for cell in thing.__closure__ or () for part in _contents(cell)]
    if isinstance(thing, functools.partial):
        return (thing.func, *thing.args, *thing.keywords.values())
    return _items(thing)


def _contents(cell: types.CellType) -> Iterable[Any]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # a name that is not bound yet
        return ()


def _refusal(caller: str, link: Any, metric: str) -> str:
    name = re.sub(r"^ScaleBy|State$", "", type(link).__name__)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    right = (
        "sgd(...), momentum(...), nonlinear_cg(), or optax.chain(sgd(1.0), line_search.armijo())"
    )
    if metric == "diagonal":
        return (
            f"{caller} needs a projection onto a box behind {name}, whose steps are scaled by "
            "coordinate, got another set, on which they would end away from the minimum; right "
            f"before project(...) are {right}."
        )
    is_fit = name in ("gauss_newton", "levenberg_marquardt")
    within = "levenberg_marquardt()" if is_fit else "lbfgsb()"
    return (
        f"{caller} needs steps along the gradient before project(...), got {name}, which turns "
        "them by a metric of its own: projected, they would end away from the minimum; right are "
        f"{right}; for a box {within} with minimize(..., bounds=(lower, upper))."
    )
