"""What `fit` refuses before the first step, in a sentence each."""

from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jaxopt_tut.splitting import ModelParts, library_of, split_model
from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.training.data import (
    AnyKey,
    DeviceData,
    averaging_dtype,
    native,
    on_device,
    refuse_masked,
)
from jaxopt_tut.training.losses import loss_of_first_batch
from jaxopt_tut.training.scalars import as_count, check_call, require_hash
from jaxopt_tut.trees import named_leaves, path_name
from jaxopt_tut.types import LossFn, Params, PyTree

ON_THE_HOST = (
    "fit runs on the host, got {}; inside of jit, vmap or grad take training.train, or steps by "
    "optimizers.step in a jax.lax.scan."
)


def check_host(given: PyTree) -> None:
    """Refuse to run where nothing is known yet."""
    for leaf in jax.tree.leaves(given):
        if is_traced(leaf):
            raise TypeError(ON_THE_HOST.format(f"a traced {jax.typeof(leaf).str_short()}"))
    if is_tracing():
        raise TypeError(ON_THE_HOST.format("a call that is traced"))


_MAKERS = {
    "evaluate": ": evaluator(metrics_fn, dataset) makes one",
    "stop": ": patience(epochs) makes one",
    "on_event": ": csv_log(path) makes one",
    "metrics": ": write lambda params, batch: {'error': ...}, which returns all by name",
}


def check_functions(
    loss_fn: Any,
    evaluate: Any,
    score: Any,
    *,
    has_state: bool,
    stop: Any = None,
    on_event: Any = None,
    metrics: Any = None,
    validates: bool = False,
) -> None:
    """Refuse what cannot be called, or not with what it will be."""
    functions = {
        "loss_fn": loss_fn, "evaluate": evaluate, "score": score,
        "stop": stop, "on_event": on_event, "metrics": metrics,
    }  # fmt: skip
    for name, function in functions.items():
        hint = _MAKERS.get(name, "")
        if not callable(function) and (function is not None or name == "loss_fn"):
            found = "None" if function is None else type(function).__name__
            raise TypeError(f"fit needs a function as {name}, got {found}{hint}.")
    require_hash("loss_fn", loss_fn)
    if validates and evaluate is not None:
        raise ValueError("fit needs validation= or evaluate=, got both.")
    if metrics is not None and not validates:
        raise ValueError("fit needs validation= for metrics, got None.")
    if metrics is not None:
        names = ("params", "batch", "model_state") if has_state else ("params", "batch")
        check_call("fit", "metrics", metrics, names)
    if evaluate is None and score is not None and not validates:
        raise ValueError("fit needs evaluate= for a score, got None.")
    if evaluate is not None:
        names = ("params", "model_state") if has_state else ("params",)
        hint = "" if has_state else "; a second argument is the state in fit(..., model_state=)"
        check_call("fit", "evaluate", evaluate, names, hint)
    if score is not None:
        check_call("fit", "score", score, ("metrics",))
    for name, argument in (("stop", "history"), ("on_event", "event")):
        if functions[name] is not None:
            check_call("fit", name, functions[name], (argument,))


def check_counts(size: int, mesh: Mesh | None, **counts: Any) -> dict[str, Any]:
    """Make integers of the counts and refuse those out of range; None stays."""
    counts = {
        name: value if value is None and name in ("steps_per_call", "diagnose_every")
        else as_count("fit", name, value)
        for name, value in counts.items()
    }  # fmt: skip
    batch_size = counts["batch_size"]
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"fit needs 1 <= batch_size <= number of examples ({size}), "
            f"got batch_size={batch_size}."
        )
    least_counts = {
        "num_epochs": 0, "accumulate": 1, "steps_per_call": 1, "diagnose_every": 1,
        "probe_every": 1,
    }  # fmt: skip
    for name, least in least_counts.items():
        if counts[name] is not None and counts[name] < least:
            raise ValueError(f"fit needs {name} >= {least}, got {name}={counts[name]}.")
    accumulate = counts["accumulate"]
    if batch_size % accumulate:
        raise ValueError(
            f"fit needs a batch_size divisible by accumulate ({accumulate}), "
            f"got batch_size={batch_size}."
        )
    if mesh is not None:
        if not isinstance(mesh, Mesh):
            raise TypeError(f"fit needs a mesh of jax.make_mesh, got {type(mesh).__name__}.")
        if not mesh.axis_names:
            raise ValueError("fit needs a mesh with an axis to split batches along, got none.")
        num_devices = mesh.shape[mesh.axis_names[0]]
        if batch_size // accumulate % num_devices:
            a_batch = "a batch_size" if accumulate == 1 else "micro-batches"
            parts = "" if accumulate == 1 else f" and accumulate={accumulate}"
            raise ValueError(
                f"fit needs {a_batch} divisible by the mesh's first axis "
                f"({num_devices}), got batch_size={batch_size}{parts}."
            )
    return counts


def is_initializer(params: Any) -> bool:
    """Tell `init(key) -> params` from a module that is callable and a tree of parameters."""
    if isinstance(params, type):  # of modules, perhaps
        return True
    is_leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(params))
    return callable(params) and is_leaf and library_of(params) is None


_ARRAYS = (jax.Array, np.ndarray, np.generic)


def take_model(caller: str, model: PyTree) -> ModelParts:
    """Split a model, and refuse one without anything to train."""
    parts = split_model(model, caller)
    for name, leaf in named_leaves(parts.trained):
        refuse_masked(caller, name, leaf)
    if jax.tree.leaves(parts.trained):
        return parts
    for name, leaf in named_leaves(model):
        if isinstance(leaf, _ARRAYS) and jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue  # as averages are
        found = leaf.dtype if isinstance(leaf, _ARRAYS) else type(leaf).__name__
        recipe = ""
        if library_of(leaf) == "linen":
            recipe = (
                " of a module of linen: hand over variables = model.init(key, x), and call "
                "model.apply(variables, x) in the loss"
            )
        raise TypeError(
            f"{caller} needs floating or complex parameters, got {found} at {name!r}{recipe}."
        )
    raise ValueError(f"{caller} needs at least one parameter, got none.")


_RECIPES = {
    # `rest` has the averages of BatchNorm and the key of Dropout: closed over, it never changes
    "nnx": "split it, graph, params, rest = nnx.split(model, nnx.Param, ...), hand over "
    "model_state=rest, merge them in the loss, "
    "model = nnx.merge(graph, params, model_state, copy=True), and return "
    "loss, Aux(metrics, nnx.state(model, nnx.Not(nnx.Param)))",
    "linen": 'hand over params = model.init(key, x)["params"], and call '
    'model.apply({"params": params}, x) in the loss; other collections are its model_state',
    "equinox": "split it, params, static = eqx.partition(model, eqx.is_inexact_array), and "
    "combine it in the loss, eqx.combine(params, static)",
}


def check_params(caller: str, params: Params) -> None:
    """Refuse a tree that is no parameters alone; of a module say how to get at them."""
    recipe = ""
    for part in jax.tree.leaves(params, is_leaf=lambda part: library_of(part) is not None):
        library = library_of(part)
        if library is not None:
            recipe = f" of a module of {library}: {_RECIPES[library]}"
    if not jax.tree.leaves(params):
        raise ValueError(f"{caller} needs at least one parameter, got none{recipe}.")
    for name, leaf in named_leaves(params):
        found = leaf.dtype if isinstance(leaf, _ARRAYS) else type(leaf).__name__
        is_number = isinstance(leaf, _ARRAYS) and jnp.issubdtype(leaf.dtype, jnp.inexact)
        if not (isinstance(leaf, float | complex) or is_number):
            raise TypeError(
                f"{caller} needs floating or complex parameters, got {found} at {name!r}{recipe}."
            )


def copy_of_state(model_state: PyTree) -> PyTree:
    """Copy the model's state, a tree of arrays or None, to the device."""
    for name, leaf in named_leaves(model_state):
        if not isinstance(leaf, (*_ARRAYS, int, float, complex)) or not _is_array(leaf):
            raise TypeError(
                f"fit needs a model_state of arrays, got {type(leaf).__name__} at {name!r}."
            )
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.array(on_device("fit", path_name(path), leaf)), model_state
    )


def _is_array(leaf: Any) -> bool:
    """Tell whether JAX has a dtype for a leaf: not for 10**400, a text, nor an array of objects."""
    try:
        jnp.asarray(native(leaf))
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def like_state(caller: str, opt_state: PyTree, fresh: PyTree) -> PyTree:
    """Bring a state, from a run or from a file, into the form of the one the optimizer makes."""
    advice = "it belongs to another optimizer or to other parameters"
    none = ("(no leaf)", None)
    for ours, theirs in zip_longest(named_leaves(fresh), named_leaves(opt_state), fillvalue=none):
        if ours[0] != theirs[0]:
            raise ValueError(
                f"{caller} needs the opt_state of its optimizer, got {theirs[0]!r} for {ours[0]!r}:"
                f" {advice}."
            )
        expected = jax.typeof(jnp.asarray(ours[1]))
        found = jax.typeof(jnp.asarray(native(theirs[1]))) if _is_array(theirs[1]) else None
        if found is None or (expected.shape, expected.dtype) != (found.shape, found.dtype):
            name = type(theirs[1]).__name__ if found is None else found.str_short()
            raise ValueError(
                f"{caller} needs the opt_state of its optimizer, got {name} for "
                f"{expected.str_short()} at {ours[0]!r}: {advice}."
            )
    leaves = [on_device(caller, *pair) for pair in named_leaves(opt_state)]
    return jax.tree.unflatten(jax.tree.structure(fresh), leaves)


def empty_record(
    loss_fn: LossFn,
    carry: Any,
    data: DeviceData,
    key: AnyKey | None,
    batch_size: int,
    num_steps: int,
) -> dict[str, Array]:
    """Look at the loss's shapes: learn its metrics' names, and check the model's state."""
    loss, aux = loss_of_first_batch.eval_shape(
        carry.params, data, carry.model_state, key, loss_fn=loss_fn, batch_size=batch_size
    )
    record = {"loss": loss, **aux.metrics}
    return {
        name: jnp.zeros(num_steps, averaging_dtype(value.dtype)) for name, value in record.items()
    }
