r"""Is a derivative right? Finite differences along random directions, leaf by leaf.

With a random direction $v$ in one leaf and random weights $w$ on the results, the number
$\langle w, \partial f\, v\rangle$ is compared with the central difference

$$\frac{\langle w, f(x + h v) - f(x - h v)\rangle}{2 h}
  = \langle w, \partial f\, v\rangle + O(h^2) + O(\epsilon / h),$$

whose error is least near $h = \epsilon^{1/3}$, and the Taylor remainder
$|\langle w, f(x + h v) - f(x) - h\, \partial f\, v\rangle|$ must fall like $h^2$; with a wrong
derivative it falls like $h$.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import jaxprs, trees
from jaxopt_tut.autodiff import engine, registry
from jaxopt_tut.autodiff.graph import Node, trace
from jaxopt_tut.autodiff.program import Step
from jaxopt_tut.autodiff.transforms import jvp, vjp
from jaxopt_tut.types import PyTree


class GradientCheck(NamedTuple):
    """What `check_gradients` found.

    Attributes:
      ok: Whether every leaf agrees within rounding.
      worst_leaf: Key path of the leaf with the largest error, the argument's position first.
      error: That error, relative to the size of the derivative and of the function.
      step: The step $h$ at which the central difference came closest.
      mode: `"forward"` or `"reverse"`.
      slope: Exponent with which the Taylor remainder falls: about 2 for a right derivative,
        1 for a wrong one, NaN where the function is linear up to rounding.
      direction: The direction in that leaf.
    """

    ok: bool
    worst_leaf: str
    error: float
    step: float
    mode: str
    slope: float
    direction: Any


def check_gradients(
    fun: Callable,
    args: Sequence[PyTree],
    *,
    order: int = 1,
    modes: Sequence[str] = ("forward", "reverse"),
) -> GradientCheck:
    r"""Compare derivatives with finite differences and name the worst leaf.

    $$\text{error} = \min_h \frac{|\langle w, \partial f\, v\rangle - \Delta_h|}
      {|\langle w, \partial f\, v\rangle| + \langle |w|, |f|\rangle}, \qquad
      \text{ok}: \text{error} \le 30\, \epsilon^{2/3}$$

    For a new `custom_node` or `defvjp` rule. It takes about ten evaluations a leaf and a mode.
    Choose a point without kinks or ties: at a corner no derivative agrees. In half precision
    only gross errors show ($\epsilon^{2/3}$ is 0.04 in bfloat16); check in float32.

    Args:
      fun: A function of pytrees of arrays; what it returns is weighted at random.
      args: Its arguments; integer leaves stay fixed.
      order: 1 checks the derivative, 2 that of the gradient too.
      modes: Which derivatives to compare: `"forward"`, `"reverse"` or both.

    Returns:
      The verdict, for the leaf, mode and order with the largest error.

    Raises:
      ValueError: If `order` is not 1 or 2, a mode is unknown, or there is nothing to check.

    Example:
      A derivative with the sign of one term wrong:

      >>> from jaxopt_tut import autodiff
      >>> node = autodiff.custom_node(lambda x, y: (x - y, ()), lambda _, g: (g, g))
      >>> good = check_gradients(lambda p: p["a"] * p["b"], ({"a": 2.0, "b": 3.0},))
      >>> bad = check_gradients(lambda p: node(p["a"], p["b"]), ({"a": 2.0, "b": 3.0},))
      >>> good.ok, bad.ok, bad.worst_leaf
      (True, False, '0/b')
    """
    if order not in (1, 2):
        raise ValueError(f"check_gradients needs order 1 or 2, got order={order}.")
    if not modes or not set(modes) <= {"forward", "reverse"}:
        raise ValueError(f"check_gradients needs modes 'forward', 'reverse', got modes={modes!r}.")
    args = tuple(jax.tree.map(jnp.asarray, tuple(args)))
    results = _check_first_order(fun, args, modes)
    if order == 2:
        weights = _random_like(jax.eval_shape(fun, *args), np.random.default_rng(1))
        gradient = lambda *point: [
            leaf for leaf in jax.tree.leaves(vjp(fun, *point)[1](weights)) if _is_inexact(leaf)
        ]
        results += _check_first_order(gradient, args, modes)
    if not results:
        raise ValueError("check_gradients needs a floating argument, got none.")
    return max(results, key=lambda result: (not result.ok, result.error))


def _check_first_order(fun: Callable, args: tuple, modes: Sequence[str]) -> list[GradientCheck]:
    rng = np.random.default_rng(0)  # the same directions on every call
    apply = jax.jit(fun)
    weights = _random_like(jax.eval_shape(fun, *args), rng)
    leaves, tree = jax.tree.flatten(args)
    names = [name for name, _ in trees.named_leaves(args)]
    rebuilt = lambda values: jax.tree.unflatten(tree, values)
    pulled = None
    if "reverse" in modes:
        pulled = jax.tree.leaves(jax.jit(lambda p: vjp(fun, *p)[1](weights))(args))
    results = []
    for k, leaf in enumerate(leaves):
        if not _is_inexact(leaf) or leaf.size == 0:
            continue
        direction = _random_like(leaf, rng)
        found = {}
        if pulled is not None:
            found["reverse"] = _pair(pulled[k], direction)
        if "forward" in modes:
            tangents = [_zero_tangent(value) for value in leaves]
            tangents[k] = direction
            push = jax.jit(lambda p, t: jvp(fun, p, t)[1])
            found["forward"] = _pair(weights, push(args, rebuilt(tangents)))
        value_at = lambda h, k=k, v=direction: apply(
            *rebuilt([*leaves[:k], _moved(leaves[k], h, v), *leaves[k + 1 :]])
        )
        for mode, derivative in found.items():
            error, step, slope = _compare(value_at, weights, derivative, _epsilon(leaf))
            ok = error <= _tolerance(leaf)
            results.append(GradientCheck(ok, names[k], error, step, mode, slope, direction))
    return results


def _compare(
    value_at: Callable, weights: PyTree, derivative: float, epsilon: float
) -> tuple[float, float, float]:
    """Return the error at the best step, that step, and the slope of the Taylor remainder."""
    steps = epsilon ** (1 / 3) * np.array([8.0, 2.0, 0.5])
    center = value_at(0.0)
    size = _pair(_sizes(weights), _sizes(center))
    scale = abs(derivative) + size + np.finfo(np.float64).tiny
    errors, remainders = [], []
    for h in steps:
        ahead, behind = value_at(h), value_at(-h)
        central = (_pair(weights, ahead) - _pair(weights, behind)) / (2 * h)
        errors.append(abs(central - derivative) / scale)
        remainders.append(abs(_pair(weights, ahead) - _pair(weights, center) - h * derivative))
    errors = [float("inf") if np.isnan(error) else float(error) for error in errors]
    best = int(np.argmin(errors))
    slope = float("nan")
    if remainders[1] > 100 * epsilon * scale:
        slope = float(np.log(remainders[0] / remainders[1]) / np.log(steps[0] / steps[1]))
    return errors[best], float(steps[best]), slope


def _moved(leaf: Any, step: float, direction: Any) -> Any:
    return leaf + direction * np.asarray(step, direction.dtype)


def _epsilon(leaf: Any) -> float:
    return float(jnp.finfo(leaf.dtype).eps)


def _tolerance(leaf: Any) -> float:
    return min(30 * _epsilon(leaf) ** (2 / 3), 0.25)


def _is_inexact(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _zero_tangent(leaf: Any) -> Any:
    dtype = leaf.dtype if _is_inexact(leaf) else jax.dtypes.float0
    return np.zeros(leaf.shape, dtype)


def _random_like(tree: PyTree, rng: np.random.Generator) -> PyTree:
    """Draw a unit vector for each floating leaf, float0 zeros for the others."""

    def draw(leaf: Any) -> Any:
        if not _is_inexact(leaf):
            return np.zeros(leaf.shape, jax.dtypes.float0)
        drawn = rng.normal(size=leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            drawn = drawn + 1j * rng.normal(size=leaf.shape)
        norm = np.linalg.norm(drawn)
        return jnp.asarray(drawn / (norm if norm else 1.0), leaf.dtype)

    return jax.tree.map(draw, tree)


def _sizes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.abs(x) if _is_inexact(x) else x, tree)


def _pair(left: PyTree, right: PyTree) -> float:
    """Sum the products of two trees in double precision, without conjugation, as JAX pairs."""
    total = 0.0
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if a.dtype != jax.dtypes.float0 and _is_inexact(a):
            wide = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
            total += float(np.real(np.sum(np.asarray(a, wide) * np.asarray(b, wide))))
    return total


def find_wrong_rule(fun: Callable, args: Sequence[PyTree]) -> Node | None:
    r"""Find the first node whose vector-Jacobian product disagrees with finite differences.

    $$\bar v\, \frac{\partial v_i}{\partial v_j}\, t \overset{?}{=}
      \frac{\langle \bar v, f_i(v_j + h t) - f_i(v_j - h t)\rangle}{2 h}$$

    When `check_gradients` fails and the function is long. Every node is tested by itself, at
    the values it has, so an error further up does not hide one further down; it costs about ten
    evaluations of each node. At a kink (`max` at a tie, `abs` at 0) a right rule disagrees too.

    Args:
      fun: A function of pytrees of arrays.
      args: Its arguments.

    Returns:
      The node (inside calls to `jit` and `remat` too; a `scan` or a custom rule is one node), or
      None where all agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut import autodiff
      >>> cube = autodiff.custom_node(lambda x: (x**3, x), lambda x, g: 2 * x**2 * g, name="cube")
      >>> node = find_wrong_rule(lambda x: jnp.sin(cube(jnp.exp(x))), (0.3,))
      >>> node.index, node.name
      (2, 'cube')
      >>> find_wrong_rule(lambda x: jnp.sin(jnp.exp(x)), (0.3,)) is None
      True
    """
    graph = trace(fun)(*args)
    values = [*graph.evaluate(*args), *graph.program.literals]
    rng = np.random.default_rng(0)
    for step in graph.program.steps:
        if step.primitive in registry.CONSTANT or step.kind == "while":
            continue
        if not _agrees(step, [values[i] for i in step.operands], rng):
            return graph.nodes[step.outputs[0]]
    return None


def _agrees(step: Step, inputs: list[Any], rng: np.random.Generator) -> bool:
    needed = tuple(
        i >= 0 and _is_inexact(x) and x.size > 0 for i, x in zip(step.operands, inputs, strict=True)
    )
    outputs = jaxprs.bind(step.eqn, inputs)
    if not any(needed) or not any(_is_inexact(y) for y in outputs):
        return True
    weights = [_random_like(y, rng) for y in outputs]
    cotangents = [w if _is_inexact(y) else None for w, y in zip(weights, outputs, strict=True)]
    found = engine.pull_step(step, cotangents, inputs, outputs, needed)
    for k, leaf in enumerate(inputs):
        if not needed[k]:
            continue
        direction = _random_like(leaf, rng)
        derivative = 0.0 if found[k] is None else _pair(found[k], direction)
        value_at = lambda h, k=k, v=direction: jaxprs.bind(
            step.eqn, [*inputs[:k], _moved(inputs[k], h, v), *inputs[k + 1 :]]
        )
        if _compare(value_at, weights, derivative, _epsilon(leaf))[0] > _tolerance(leaf):
            return False
    return True
