"""Exponential moving averages of gradients: the state of `momentum` and of `adam`.

An average is *stored* in one dtype and *computed* in the wider of that dtype and the gradient's,
so that bfloat16 gradients can feed a float32 average and the other way round.
"""

import jax
import jax.numpy as jnp
from typing_extensions import TypeAliasType

from jaxopt_tut.hyperparameters import cast
from jaxopt_tut.trees import named_leaves, require_inexact, require_same_structure
from jaxopt_tut.types import DTypeLike, Number, PyTree

Storage = TypeAliasType("Storage", DTypeLike | None)
"""A dtype to store averages in; `None` for each parameter's own."""


def zeros(params: PyTree, dtype: Storage = None, *, real: bool = False) -> PyTree:
    """Start averages at zero, strongly typed, so that the second step compiles nothing new."""

    def leaf(p: Number) -> jax.Array:
        own = jnp.result_type(p)
        # canonical, or a float64 asked for without x64 would be a warning at each leaf
        stored = jax.dtypes.canonicalize_dtype(dtype or (jnp.finfo(own).dtype if real else own))
        return jnp.zeros_like(p, dtype=stored)

    return jax.tree.map(leaf, params)


def require_dtype(caller: str, *, real: bool = False, **dtypes: DTypeLike | None) -> None:
    """Refuse to store averages in a dtype that cannot hold them."""
    kind, words = (jnp.floating, "floating") if real else (jnp.inexact, "floating or complex")
    for name, dtype in dtypes.items():
        if dtype is not None and not jnp.issubdtype(dtype, kind):
            raise ValueError(
                f"{caller} needs a {words} {name}, got {name}={jnp.dtype(dtype).name}."
            )


def require_matching(updates: PyTree, averages: PyTree, caller: str) -> None:
    """Refuse gradients that the averages of the state cannot take in, or only the real part of."""
    require_inexact(updates, caller)
    require_same_structure(averages, updates, caller)
    for (name, g), m in zip(named_leaves(updates), jax.tree.leaves(averages), strict=True):
        if jnp.iscomplexobj(g) != jnp.iscomplexobj(m):
            raise TypeError(
                f"{caller} needs gradients and averages that are both real or both complex, "
                f"got {jnp.result_type(g)} and {m.dtype} at {name!r}."
            )


def average(values: PyTree, averages: PyTree, decay: Number) -> PyTree:
    r"""Blend new values into their moving averages.

    $$m_t = \beta\, m_{t-1} + (1 - \beta)\, x_t, \quad \text{in the wider dtype of the two}$$
    """

    def blend(x: jax.Array, m: jax.Array) -> jax.Array:
        x, m = widen(x, m)
        return cast(1 - decay, x.dtype) * x + cast(decay, m.dtype) * m

    return jax.tree.map(blend, values, averages)


def debias(averages: PyTree, decay: Number, count: Number) -> PyTree:
    r"""Undo the pull towards the zero at which a moving average starts.

    $$\hat m_t = m_t / (1 - \beta^t)$$
    """
    decay = jnp.real(1.0 * decay)
    weight = 1 - jax.lax.pow(decay, jnp.asarray(count, decay.dtype))
    return jax.tree.map(lambda m: m / cast(weight, m.dtype), averages)


def widen(*arrays: Number) -> list[jax.Array]:
    """Bring arrays to the smallest dtype that holds them all, also where promotion is strict."""
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*arrays)
    return [jnp.asarray(a, dtype) for a in arrays]
