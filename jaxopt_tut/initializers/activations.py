"""What every integral over an activation asks of it: elementwise, real, the same everywhere."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxopt_tut.tracing import known
from jaxopt_tut.types import Activation

NUM_POINTS = 8192
"""The one length at which activations are evaluated, so that each operation compiles once."""

_OTHER_SHAPE = (4, 32)


def require_activation(caller: str, activation: Activation) -> float:
    """Refuse what is no elementwise real function; return the precision of its results.

    Half of the entries are moved to other places among other neighbours, and some are put into
    another shape: the values must move with them. Costs three evaluations.
    """
    if not callable(activation):
        raise TypeError(f"{caller} needs a callable activation, got {activation!r}.")
    name = activation_name(activation)
    places = np.random.default_rng(0).permutation(NUM_POINTS)
    line = np.linspace(-3, 3, NUM_POINTS)
    y = _call(caller, activation, line)
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(
            f"{caller} needs an activation with floating values, got {name}, which maps "
            f"{jnp.result_type(float)} to {y.dtype}."
        )
    moved = 2.5 * line + 0.5
    kept, targets = np.split(places, 2)[0], np.split(np.roll(places, 1000), 2)[0]
    moved[targets] = line[kept]
    among = _call(caller, activation, moved)
    eps = float(jnp.finfo(y.dtype).eps)
    if known(y) is None or known(among) is None:
        return eps
    y, among = np.asarray(y, float), np.asarray(among, float)
    why = None
    if _differ(y[kept], among[targets], 16 * eps).any():
        shuffled = np.asarray(_call(caller, activation, line[places]), float)
        keeps_order = not _differ(y[places], shuffled, 1024 * eps).any()
        why = "mixes the entries" if keeps_order else "depends on the places of the entries"
    else:
        apart = np.asarray(_call(caller, activation, line[::64].reshape(_OTHER_SHAPE)), float)
        # Another shape may be computed by another loop, whose rounding a steep function blows up;
        # what depends on the shape differs by far more, and nearly everywhere.
        if _differ(y[::64], apart.ravel(), max(64 * eps, 1e-3)).mean() > 0.25:
            why = "depends on the shape"
    if why:
        raise ValueError(f"{caller} needs an elementwise activation, got {name}, which {why}.")
    return eps


def _call(caller: str, activation: Activation, points: Float[np.ndarray, "..."]) -> Array:
    """Evaluate an activation, and refuse one that fails or changes the shape."""
    x = jnp.asarray(points, jnp.result_type(float))
    name = activation_name(activation)
    try:
        y = activation(x)
    except (TypeError, ValueError, IndexError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ValueError(
            f"{caller} needs an elementwise activation, got {name}, which fails on an array of "
            f"shape {x.shape}: {reason}."
        ) from error
    if jnp.shape(y) != x.shape:
        raise ValueError(
            f"{caller} needs an activation that keeps the shape, "
            f"got {name}, which maps {x.shape} to {jnp.shape(y)}."
        )
    return jnp.asarray(y)


def _differ(
    a: Float[np.ndarray, "*shape"], b: Float[np.ndarray, "*shape"], tolerance: float
) -> Bool[np.ndarray, "*shape"]:
    """Compare by entries, NaN and infinities too; far below the typical size all is rounding."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.abs(a), np.abs(b))
        typical = np.median(size[np.isfinite(size)]) if np.isfinite(size).any() else 0.0
        is_close = np.abs(a - b) <= tolerance * np.maximum(size, typical)
    return ~(is_close & np.isfinite(size) | (a == b) | (np.isnan(a) & np.isnan(b)))


def activation_name(activation: Activation) -> str:
    """Return how to call an activation in a message."""
    return getattr(activation, "__name__", None) or repr(activation)
