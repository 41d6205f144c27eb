"""What layers make of their arguments: floating arrays, and weights that are not negative."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact


def promote(caller: str, *arrays: ArrayLike, allow_complex: bool = False) -> list[Array]:
    """Bring arrays to one floating dtype: integers become floating, as in a division."""
    arrays = tuple(jnp.asarray(a) for a in arrays)
    for array in arrays:
        if jnp.issubdtype(array.dtype, jnp.complexfloating) and not allow_complex:
            raise TypeError(f"{caller} needs real numbers, got {array.dtype}.")
        if not jnp.issubdtype(array.dtype, jnp.number) and array.dtype != jnp.bool_:
            raise TypeError(f"{caller} needs numbers, got {array.dtype}.")
    kinds = [a.dtype if jnp.issubdtype(a.dtype, jnp.inexact) else float for a in arrays]
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*(jnp.dtype(jnp.result_type(kind)) for kind in kinds))
    return [a.astype(dtype) for a in arrays]


def at_least_float32(dtype: Any) -> Any:
    """Return the dtype to compute in: halves are widened."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def weight(caller: str, lam: ArrayLike, dtype: Any) -> Inexact[Array, "..."]:
    """Refuse a static weight below 0 and make a traced one below 0 not a number."""
    if jnp.iscomplexobj(lam):
        raise TypeError(f"{caller} needs a real lam, got {jnp.asarray(lam).dtype}.")
    if not isinstance(lam, jax.Array) and not np.all(np.asarray(lam) >= 0):
        raise ValueError(f"{caller} needs lam >= 0, got lam={lam}.")
    lam = jnp.asarray(lam).astype(dtype)
    return lam * jnp.where(lam >= 0, 1, jnp.nan).astype(dtype)
