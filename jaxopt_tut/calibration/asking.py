"""What the calibrations ask of their arguments, and how they refuse the rest."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.loss_forms import LossForm, read_form
from jaxopt_tut.types import Batch, Params


def require_key(caller: str, key: Any) -> None:
    """Refuse what is no typed key, such as a seed or a key of `jax.random.PRNGKey`."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key) or key.shape:
        raise TypeError(
            f"{caller} needs one typed key, such as jax.random.key(0), got {_described(key)}."
        )


def require_arrays(caller: str, params: Params, batch: Batch) -> None:
    """Refuse parameters and batches without arrays, and functions in place of either."""
    for what, tree in (("parameters", params), ("a batch", batch)):
        leaves = jax.tree.leaves(tree, is_leaf=is_iterator)
        iterator = next(filter(is_iterator, leaves), None)
        if iterator is None and any(isinstance(leaf, _ARRAYS) for leaf in leaves):
            continue
        hint, got = "", tree
        if iterator is not None:
            hint, got = ": hand in one batch, next(...)", iterator
        elif callable(tree):
            name = getattr(tree, "__name__", "it")
            hint = f": call it, {name}(...), and hand in what it returns"
        elif leaves and hasattr(tree, "__iter__"):
            hint = ": make arrays of it with jax.numpy.asarray"
        raise TypeError(f"{caller} needs {what} with arrays, got {_described(got)}{hint}.")


_ARRAYS = (jax.Array, np.ndarray, np.generic)


def require_form(caller: str, fn: Any, *, has_model_state: bool) -> LossForm:
    """Refuse a function that cannot be called as a loss or a model is."""
    if not callable(fn):
        raise TypeError(f"{caller} needs a function, got {_described(fn)}.")
    try:
        return read_form(caller, fn, has_key=None, has_model_state=has_model_state)
    except TypeError as error:
        names = list(inspect.signature(fn).parameters)
        name = getattr(fn, "__name__", "fn").replace("<lambda>", "fn")
        given = ["params", "batch", "model_state"][: 3 if has_model_state else 2]
        shown, wrapped = ", ".join(given), ", ".join([*given, *names[len(given) :]])
        raise TypeError(
            f"{caller} calls {name}({shown}), and it takes ({', '.join(names)}): wrap it, as in "
            f"lambda {shown}: {name}({wrapped})."
        ) from error


def is_iterator(tree: Any) -> bool:
    """Tell what gives batches one by one, which JAX takes for a leaf with a warning."""
    return hasattr(tree, "__next__")


def _described(value: Any) -> str:
    """Name a value by its type, an array by dtype and shape too."""
    if value is None:
        return "None"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    kind = type(value).__name__
    return "a function" if kind in ("function", "method", "builtin_function_or_method") else kind
