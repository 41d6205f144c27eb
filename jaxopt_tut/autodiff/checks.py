r"""Is a derivative right? Finite differences along random directions, leaf by leaf.

With a random direction $v$ in one leaf and random weights $w$ on the results, the number
$\langle w, \partial f\, v\rangle$ is compared with the slope that central differences tend to,

$$\frac{\langle w, f(x + h v) - f(x - h v)\rangle}{2 h}
  = \langle w, \partial f\, v\rangle + O(h^2) + O(\epsilon / h).$$

No one step $h$ suits leaves of 1e-6 and of 1e6, and no fixed tolerance a leaf that is a millionth
part of the result. So each slope is extrapolated on steps of its own and comes with an error
estimate (`extrapolation`), the differences are those of the same program in double precision,
followed through it rather than subtracted at its end (`widening`, `differencing`), and the verdict
is relative to the derivative itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import jaxprs, trees
from jaxopt_tut.autodiff import extrapolation, probing
from jaxopt_tut.autodiff.differencing import Differenced
from jaxopt_tut.autodiff.probing import Channels, Finding, Programs
from jaxopt_tut.autodiff.transforms import jvp, vjp
from jaxopt_tut.autodiff.widening import Widened, is_inexact, widened
from jaxopt_tut.blocks import shown
from jaxopt_tut.types import PyTree


@shown
class GradientCheck(NamedTuple):
    """What `check_gradients` found.

    Attributes:
      ok: Whether every leaf's derivative is right: known to five per cent at least (one in
        float64) and equal to the slope within its uncertainty and rounding.
      worst_leaf: Key path of the leaf that comes off worst, the argument's position first.
      error: Distance of its derivative from the slope, beyond the slope's own uncertainty, as a
        part of the derivative: 0.05 where a factor of 1.05 is wrong.
      step: The step $h$ at which the slope was found, in units of `direction`.
      mode: `"forward"` or `"reverse"`.
      slope: Exponent with which the Taylor remainder falls: about 2 for a right derivative,
        1 for a wrong one, NaN where the function is linear up to rounding.
      direction: The direction in that leaf, of the leaf's own scale.
      verdict: `"right"`; `"wrong"`; `"not differentiable here"`, where the function has a kink,
        a jump, an infinite slope or its domain's end within the smallest step; or
        `"inconclusive"`, where rounding hides more than `ok` allows.
      uncertainty: That of the slope, as a part of the derivative.
      order: 1, or 2 where the derivative of the gradient comes off worst.
    """

    ok: bool
    worst_leaf: str
    error: float
    step: float
    mode: str
    slope: float
    direction: Any
    verdict: str = "right"
    uncertainty: float = 0.0
    order: int = 1


def check_gradients(
    fun: Callable,
    args: Sequence[PyTree],
    *,
    order: int = 1,
    modes: Sequence[str] = ("forward", "reverse"),
) -> GradientCheck:
    r"""Compare derivatives with finite differences and name the worst leaf.

    $$|D - B| \le 3 e + \tau \max(|D|, |B|), \qquad
      D = \langle w, \partial f\, v\rangle, \quad B \pm e = \text{slope along } v$$

    For a new `custom_node` or `defvjp` rule, at leaves of any scale. $\tau$ is
    $\sqrt\epsilon$ of the leaves' dtype, from 1e-6 to two per cent. The same program is run in
    double precision, so that float32 and bfloat16 are judged as sharply; that a derivative
    overflows at its own precision is seen too. It takes three compilations (five below float64),
    some ten evaluations a leaf, and sixty where a function is not smooth at the leaf's scale.

    At a kink or a tie no derivative agrees: `ok` is False and the verdict says *not
    differentiable here*; choose another point. What no difference can resolve is *inconclusive*. A
    leaf whose share of every result is below some 1e-12 counts as one without a derivative.

    Args:
      fun: A function of pytrees of arrays; what it returns is weighted at random.
      args: Its arguments; integer leaves stay fixed.
      order: 1 checks the derivative, 2 that of the gradient too.
      modes: Which derivatives to compare: `"forward"`, `"reverse"` or both.

    Returns:
      The verdict, for the leaf, mode and order that comes off worst.

    Raises:
      ValueError: If `order` is not 1 or 2, a mode is unknown, or there is nothing to check.

    Example:
      A derivative with the sign of one term wrong, of a leaf that is a millionth of the result:

      >>> from jaxopt_tut import autodiff
      >>> node = autodiff.custom_node(lambda x, y: (x - y, ()), lambda _, g: (g, g))
      >>> good = check_gradients(lambda p: p["a"] - p["b"], ({"a": 2.0, "b": 3e-6},))
      >>> bad = check_gradients(lambda p: node(p["a"], p["b"]), ({"a": 2.0, "b": 3e-6},))
      >>> good.ok, bad.ok, bad.worst_leaf, round(bad.error, 3)
      (True, False, '0/b', 2.0)
      >>> check_gradients(abs, (0.0,)).verdict
      'not differentiable here'

    References:
      Ridders (1982), Advances in Engineering Software 4(2), for steps chosen by extrapolation.
      https://doi.org/10.1016/S0141-1195(82)80057-0
    """
    if order not in (1, 2):
        raise ValueError(f"check_gradients needs order 1 or 2, got order={order}.")
    if not modes or not set(modes) <= {"forward", "reverse"}:
        raise ValueError(f"check_gradients needs modes 'forward', 'reverse', got modes={modes!r}.")
    args = tuple(jax.tree.map(jnp.asarray, tuple(args)))
    names = [name for name, _ in trees.named_leaves(args)]
    leaves, tree = jax.tree.flatten(args)
    flat = lambda *leaves: jax.tree.leaves(fun(*jax.tree.unflatten(tree, leaves)))
    results, outputs = _check_first_order(flat, leaves, names, modes, 1)
    if order == 2 and results:
        results += _check_first_order(_gradient(flat, outputs), leaves, names, modes, 2)[0]
    if not results:
        raise ValueError("check_gradients needs a floating argument, got none.")
    rank = lambda result: (extrapolation.VERDICTS.index(result.verdict), result.error)
    return max(results, key=rank)


def _check_first_order(
    flat: Callable, leaves: list[Any], names: list[str], modes: Sequence[str], order: int
) -> tuple[list[GradientCheck], list[Any]]:
    """Check one function of flat arrays; return the verdicts and the function's values."""
    moving = [k for k, leaf in enumerate(leaves) if is_inexact(leaf) and leaf.size]
    if not moving:
        return [], []
    rng = np.random.default_rng(0)  # the same directions on every call
    traced = _Traced(flat, leaves, modes)
    programs = traced.programs()
    wide = [widened(np.asarray(leaf)) if is_inexact(leaf) else leaf for leaf in leaves]
    results = []
    with jax.enable_x64(True):
        outputs = programs.value(wide)
        channels = Channels(outputs, rng)
        for k in moving:
            found = probing.probe(programs, wide, k, channels, outputs, rng)
            if channels.count and not channels.finite.any():
                found = [finding._replace(verdict=extrapolation.SINGULAR) for finding in found]
            found += [_overflow(traced, programs, wide, k, mode, outputs) for mode in modes]
            results += [_result(finding, names[k], order) for finding in found if finding]
    return results, outputs


class _Traced:
    """A function of flat arrays and its derivatives as jaxprs, traced at their own precision."""

    def __init__(self, flat: Callable, leaves: list[Any], modes: Sequence[str]):
        self.leaves = leaves
        self.moving = [k for k, leaf in enumerate(leaves) if is_inexact(leaf)]
        shapes = jax.eval_shape(flat, *leaves)
        self.shapes = [shape for shape in shapes if is_inexact(shape)]
        tangents = [jnp.zeros_like(leaves[k]) for k in self.moving]
        cotangents = [jnp.zeros(shape.shape, shape.dtype) for shape in self.shapes]

        def push(leaves: list[Any], tangents: list[Any]) -> list[Any]:
            every = [np.zeros(np.shape(leaf), jax.dtypes.float0) for leaf in leaves]
            for k, tangent in zip(self.moving, tangents, strict=True):
                every[k] = tangent
            return [t for t in jvp(flat, leaves, every)[1] if is_inexact(t)]

        def pull(leaves: list[Any], cotangents: list[Any]) -> list[Any]:
            given = iter(cotangents)
            zero = lambda shape: np.zeros(shape.shape, jax.dtypes.float0)
            every = [next(given) if is_inexact(shape) else zero(shape) for shape in shapes]
            found = vjp(flat, *leaves)[1](every)
            return [found[k] for k in self.moving]

        self.jaxprs = {"value": jax.make_jaxpr(flat)(*leaves)}
        if "forward" in modes:
            self.jaxprs["forward"] = jax.make_jaxpr(push)(leaves, tangents)
        if "reverse" in modes:
            self.jaxprs["reverse"] = jax.make_jaxpr(pull)(leaves, cotangents)
        dtypes = [leaves[k].dtype for k in self.moving] + [shape.dtype for shape in self.shapes]
        self.epsilon = max(float(jnp.finfo(dtype).eps) for dtype in dtypes)
        self.own = {mode: jax.jit(jaxprs.function_of(jaxpr)) for mode, jaxpr in self.jaxprs.items()}

    def programs(self) -> Programs:
        """Return the programs in double precision."""
        kinds = {"value": Differenced, "forward": Widened, "reverse": Widened}
        wide = {mode: kinds[mode](jaxpr) for mode, jaxpr in self.jaxprs.items()}
        apply = {mode: jax.jit(program.__call__) for mode, program in wide.items()}
        follow = jax.jit(lambda leaves, moves: wide["value"].changes(leaves, self.aligned(moves)))
        derivatives = {}
        if "forward" in wide:
            derivatives["forward"] = lambda leaves, k, direction: apply["forward"](
                *leaves, *self.tangents(leaves, k, direction)
            )
        if "reverse" in wide:
            derivatives["reverse"] = lambda leaves, weights: self.aligned(
                apply["reverse"](*leaves, *weights)
            )
        change = lambda leaves, k, move: follow(leaves, self.tangents(leaves, k, move))[1]
        value = lambda leaves: follow(leaves, self.tangents(leaves, -1, None))[0]
        return Programs(value, change, derivatives, self.epsilon, tuple(wide.values()))

    def tangents(self, leaves: list[Any], k: int, direction: Any) -> list[Any]:
        """Return the direction in leaf `k` and zeros in the others."""
        return [direction if i == k else np.zeros_like(leaves[i]) for i in self.moving]

    def aligned(self, cotangents: Sequence[Any]) -> list[Any]:
        """Put None where a leaf has no cotangent."""
        found: list[Any] = [None] * len(self.leaves)
        for k, cotangent in zip(self.moving, cotangents, strict=True):
            found[k] = cotangent
        return found


def _overflow(
    traced: _Traced, programs: Programs, wide: list[Any], k: int, mode: str, outputs: list[Any]
) -> Finding | None:
    """Find a derivative that is infinite or NaN only because of its own precision."""
    if traced.epsilon < 1e-12:
        return None
    leaf = traced.leaves[k]
    direction = np.ones(leaf.shape)
    ones = [np.ones(shape.shape) for shape in traced.shapes]
    with jax.enable_x64(False):
        if mode == "forward":
            given = traced.tangents(traced.leaves, k, jnp.ones_like(leaf))
        else:
            given = [jnp.ones(shape.shape, shape.dtype) for shape in traced.shapes]
        own = traced.own[mode](*traced.leaves, *given)
        values = traced.own["value"](*traced.leaves)
    if mode == "forward":
        found = programs.derivatives["forward"](wide, k, direction)
    else:
        own = traced.aligned(own)[k : k + 1]
        found = programs.derivatives["reverse"](wide, ones)[k : k + 1]
    bad = any(_lost(a, b) for a, b in zip(own, found, strict=True))
    lost = any(_lost(a, b) for a, b in zip(values, outputs, strict=True))
    if not bad and not lost:
        return None
    verdict = extrapolation.INCONCLUSIVE if lost else extrapolation.WRONG
    nan = float("nan")
    return Finding(verdict, float("inf"), 0.0, nan, nan, mode, direction)


def _lost(own: Any, wide: Any) -> bool:
    """Tell whether a value is not finite though it would fit into its dtype."""
    if not is_inexact(own):
        return False
    limit = float(jnp.finfo(own.dtype).max)
    own, wide = widened(np.asarray(own)), np.asarray(wide)
    with np.errstate(all="ignore"):
        fits = np.isfinite(wide) & (np.isnan(own) | (np.abs(wide) < limit))
        return bool(np.any(~np.isfinite(own) & fits))


def _result(finding: Finding, name: str, order: int) -> GradientCheck:
    return GradientCheck(
        finding.verdict == extrapolation.RIGHT,
        name,
        finding.error,
        finding.step,
        finding.mode,
        finding.slope,
        finding.direction,
        extrapolation.VERDICTS[finding.verdict],
        finding.uncertainty,
        order,
    )


def _gradient(flat: Callable, outputs: list[Any]) -> Callable:
    """Return the gradient of a weighted sum of the outputs, each at its own scale."""
    rng = np.random.default_rng(1)
    sizes = [
        float(np.max(np.abs(np.asarray(y)), initial=0.0)) if is_inexact(y) else 0.0 for y in outputs
    ]
    largest = max(sizes, default=0.0)
    drawn = []
    for y, size in zip(outputs, sizes, strict=True):
        weight = np.clip(largest / size, 1.0, 1e4) if size and np.isfinite(size) else 1.0
        draw = rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape)
        drawn.append(np.asarray(draw * weight))

    def gradient(*leaves: Any) -> list[Any]:
        values, pull = vjp(flat, *leaves)
        weights = [
            jnp.asarray(w, y.dtype) if is_inexact(y) else np.zeros(y.shape, jax.dtypes.float0)
            for w, y in zip(drawn, values, strict=True)
        ]
        return [leaf for leaf in pull(weights) if is_inexact(leaf)]

    return gradient
