"""Keys of random numbers: what is one, and how the rest is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["require_key"]


def require_key(caller: str, key: Any) -> None:
    """Refuse what is no key; one of `jax.random.PRNGKey` will do.

    Args:
      caller: The name of the function that asks; it opens the message.
      key: Anything; it may be traced.

    Raises:
      TypeError: If it is not one key.

    Example:
      >>> require_key("trace", jax.random.key(0))
      >>> require_key("trace", 0)
      Traceback (most recent call last):
      ...
      TypeError: trace needs one key of jax.random.key, got 0.
    """
    is_typed = jnp.issubdtype(getattr(key, "dtype", np.float32), jax.dtypes.prng_key)
    is_raw = getattr(key, "dtype", None) == np.uint32
    is_one = (is_typed and key.shape == ()) or (is_raw and key.shape == _words_of_a_key())
    if not is_one:
        found = f"{key.dtype}{list(key.shape)}" if hasattr(key, "shape") else repr(key)
        raise TypeError(f"{caller} needs one key of jax.random.key, got {found}.")


def _words_of_a_key() -> tuple[int, ...]:
    """Return the shape of an older key, which the generator of JAX's settings has."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
