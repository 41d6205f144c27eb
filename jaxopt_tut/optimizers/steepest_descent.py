"""Steepest descent under a norm, which may differ from leaf to leaf."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.norms import L2, LInf, Norm
from jaxopt_tut.trees import matching_names, named_leaves, path_name, require_inexact
from jaxopt_tut.types import ScalarOrSchedule

_L2 = L2()


class SteepestDescentState(NamedTuple):
    """The state of `scale_by_steepest_descent` under norms that couple coordinates: nothing."""

    metric = "dense"  # see `stationarity`


class DiagonalSteepestDescentState(NamedTuple):
    """The state where each coordinate, or each leaf, is scaled by a number of its own: nothing."""

    metric = "diagonal"


def scale_by_steepest_descent(
    norm: Norm | Mapping[str, Norm] = _L2, *, scale_by_dual_norm: bool = True
) -> optax.GradientTransformation:
    r"""Replace each gradient by the steepest direction under a norm.

    $$u = \lVert g \rVert_*\, d(g), \qquad
    d(g) = \arg\max_{\lVert d \rVert \le 1} \langle g, d \rangle$$

    or $u = d(g)$ without `scale_by_dual_norm`. The part of `steepest_descent` without the learning
    rate.

    Args:
      norm: A norm for all leaves, or norms by path pattern as in `steepest_descent`.
      scale_by_dual_norm: Whether the update grows with the gradient.

    Returns:
      A transformation from gradients to directions, each in the gradient's dtype.

    Raises:
      TypeError: If `norm` is no norm, or a leaf is neither floating nor complex.
      ValueError: From `init` and `update`, if no pattern matches a leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers.norms import LInf
      >>> transform = scale_by_steepest_descent(LInf())
      >>> g = jnp.array([1.0, -2.0])
      >>> print(transform.update(g, transform.init(g))[0])
      [ 3. -3.]

    References:
      Boyd and Vandenberghe (2004), Convex optimization, section 9.4, eq. (9.23).
    """
    norm = dict(norm) if isinstance(norm, Mapping) else norm
    for pattern, rule in norm.items() if isinstance(norm, dict) else [("*", norm)]:
        if isinstance(rule, type):
            raise TypeError(
                f"steepest_descent needs norms as in optimizers.norms, got a class at {pattern!r}: "
                f"call it, {rule.__name__}()."
            )
        if not isinstance(rule, Norm):
            raise TypeError(
                f"steepest_descent needs norms as in optimizers.norms, got {rule!r} at {pattern!r}."
            )

    def init(params):
        require_inexact(params, "steepest_descent")
        norms = list(_norms(params, norm).values())
        if all(isinstance(rule, L2) for rule in norms) and (scale_by_dual_norm or len(norms) == 1):
            return optax.EmptyState()
        if all(isinstance(rule, L2 | LInf) for rule in norms):
            return DiagonalSteepestDescentState()
        return SteepestDescentState()

    def update(updates, state, params=None):
        del params  # the direction depends on the gradient alone
        require_inexact(updates, "steepest_descent")
        norms = _norms(updates, norm)

        def direct(path, g):
            g, rule = jnp.asarray(g), norms[path_name(path)]
            if scale_by_dual_norm and isinstance(rule, L2):
                return g  # |g| g / |g|, coordinate by coordinate
            direction = rule.steepest(g)
            if scale_by_dual_norm:
                direction = rule.dual_norm(g).astype(g.dtype) * direction
            return direction

        return jax.tree_util.tree_map_with_path(direct, updates), state

    return optax.GradientTransformation(init, update)


def _norms(tree: Any, norm: Norm | Mapping[str, Norm]) -> dict[str, Norm]:
    """Give each leaf its norm: that of the first pattern that matches its path."""
    names = [name for name, _ in named_leaves(tree)]
    if not isinstance(norm, Mapping):
        return dict.fromkeys(names, norm)
    norms: dict[str, Norm] = {}
    for pattern, rule in norm.items():
        norms = {**dict.fromkeys(matching_names(pattern, names), rule), **norms}
    for name in names:
        if name not in norms:
            raise ValueError(
                f"steepest_descent needs a norm for each leaf, got none of {list(norm)} "
                f"for {name!r}."
            )
    return norms


def steepest_descent(
    learning_rate: ScalarOrSchedule,
    *,
    norm: Norm | Mapping[str, Norm] = _L2,
    scale_by_dual_norm: bool = True,
) -> optax.GradientTransformationExtraArgs:
    r"""Build steepest descent under a norm.

    $$w_{t+1} = w_t - \eta\, \lVert g \rVert_*\, d(g), \qquad
    d(g) = \arg\max_{\lVert d \rVert \le 1} \langle g, d \rangle$$

    leaf by leaf. To first order the value falls by $\eta \lVert g \rVert_*^2$ a leaf, the most a
    step of that norm can bring. Under `L2` it is `sgd`. `LInf` moves all coordinates equally far,
    `L1` one a leaf, `Spectral` all singular directions of a matrix: it suits the kernels of dense
    and convolution layers, as in Muon (which does not scale by the dual norm, and orthogonalises a
    momentum: put `optax.trace` before). No memory; a singular value decomposition for `Spectral`,
    else a few operations a parameter.

    Args:
      learning_rate: Step size $\eta$; in parameters squared per loss, or in units of the norm
        without `scale_by_dual_norm`. A number, a scalar array, a tracer, or a schedule.
      norm: A value of `optimizers.norms`, or a dictionary of them by pattern, e.g.
        `{"*/kernel": Spectral(), "*": LInf()}`: the first that matches a leaf's path counts.
      scale_by_dual_norm: Whether the step grows with the gradient; otherwise its norm is $\eta$.

    Returns:
      A transformation whose updates are *added* to the parameters.

    Raises:
      TypeError: If `learning_rate` is of no fitting type, `norm` is no norm, or a leaf is neither
        floating nor complex.
      ValueError: If `learning_rate` is no scalar, or is static and not finite; from `init` and
        `update`, if no pattern matches a leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers.norms import L1
      >>> optimizer = steepest_descent(0.5, norm=L1())
      >>> g = jnp.array([1.0, -4.0])
      >>> print(optimizer.update(g, optimizer.init(g))[0])
      [-0.  2.]

    References:
      Boyd and Vandenberghe (2004), Convex optimization, section 9.4, algorithm 9.4.
    """
    return optax.chain(
        scale_by_steepest_descent(norm, scale_by_dual_norm=scale_by_dual_norm),
        scale_by_learning_rate(learning_rate, caller="steepest_descent"),
    )
