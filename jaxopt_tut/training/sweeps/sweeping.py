"""One call for every configuration with every key."""

import os
import warnings
from concurrent.futures import Executor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Shaped
from typing_extensions import TypeAliasType

from jaxopt_tut.training.scalars import Count, as_count
from jaxopt_tut.training.sweeps.devices import Devices
from jaxopt_tut.training.sweeps.pairs import Pairs, as_pairs
from jaxopt_tut.training.sweeps.planning import Plan, make_plan
from jaxopt_tut.training.sweeps.program import Programs, Run, Traced, trace
from jaxopt_tut.training.sweeps.result import Sweep, finite_pairs
from jaxopt_tut.training.sweeps.storage import identity, open_folder
from jaxopt_tut.training.sweeps.strategies import Map, Strategy, Vmap
from jaxopt_tut.training.sweeps.workers import run_on
from jaxopt_tut.types import PyTree

Keys = TypeAliasType("Keys", Shaped[Array, "keys ..."])
"""Keys along one axis: `jax.random.split(key, num)`."""

Directory = TypeAliasType("Directory", str | os.PathLike)
"""Where something is kept."""

AnyExecutor = TypeAliasType("AnyExecutor", Executor)
"""Any of `concurrent.futures`, a cluster's among them."""


def sweep(
    run: Run,
    hyperparameters: PyTree,
    *,
    keys: Keys,
    mesh: Mesh | None = None,
    chunk: Count | None = None,
    strategy: Strategy | None = None,
    directory: Directory | None = None,
    executor: AnyExecutor | None = None,
) -> Sweep:
    """Run every configuration with every key, in as few programs as possible.

    The pairs are cut into chunks. Each is run on one device, by one strategy, and the last one is
    filled up: so neither the number of devices, processes or workers nor a kill changes a bit of
    what comes out. The chunk does, with `Vmap`, and so may another machine or version of JAX.

    | strategy | what it is to the bit | good for |
    | --- | --- | --- |
    | `Map(lanes=1)` | a Python loop over `jax.jit(run)` | networks on a CPU |
    | `Map(lanes=k)` | `jax.vmap` over k at a time | what memory or caches limit |
    | `Vmap()` | `jax.vmap` over a chunk | a GPU, very small runs |

    Without a strategy a group of each is timed, and `timings` says what came out; together that is
    about as long as one chunk. Large arrays that `run` closes over become arguments of the
    program, once and not as constants. A run whose numbers are not finite stays where it is.

    With a directory every finished chunk is kept there, in a file of NumPy's without pickle and
    with a digest; a later call with the same arguments runs the others only. `strategy` and
    `chunk`, if they are None then, are those that were chosen before. A run that calls back into
    Python cannot be compared with the one before, so it is refused.

    With an executor the chunks are run by its workers. A `ProcessPoolExecutor` must spawn its
    processes, and when one dies the pool is broken and the chunks that it has not finished are
    lost, which is a warning and one of the `messages`;
    `distributed.Client(...).get_executor(retries=2)` (extra `cluster`) runs them elsewhere.

    Args:
      run: `run(hyperparameters, key) -> tree of arrays`, for one configuration and one key, for
        example `train`'s result or a loss; traced, so it can be jitted. For an executor it must be
        picklable (anything, where cloudpickle is installed) and not close over large data.
      hyperparameters: A tree of arrays with the configurations along the first axis, of `grid` or
        `sample`.
      keys: Keys along one axis; each configuration is run with each.
      mesh: Devices, of several processes perhaps, over whose first axis chunks are spread.
      chunk: Pairs that a device runs before they are kept: the more, the more memory `Vmap` takes.
        By default an eighth of all, between 8 and 1024. One that does not fit is halved, and
        `messages` says so.
      strategy: `Vmap()`, `Map(lanes)`, or None to choose the fastest.
      directory: Where chunks are kept; new, empty, or that of this sweep.
      executor: Any of `concurrent.futures`; not together with a mesh.

    Returns:
      Results with the axes of configurations and keys in front, and what happened.

    Raises:
      TypeError: If `run` cannot be called so, something is traced, or the directory is no path.
      ValueError: If arrays of hyper-parameters differ in length, `run` cannot be traced or sent,
        `lanes` does not divide the chunk, the directory is that of another sweep, or one is given
        for a run with callbacks.
      OSError: If the directory cannot be written to.
      RuntimeError: If all workers failed.

    Example:
      Gradient descent on $w^2 / 2$ multiplies $w$ by one minus the rate: the best rate is 1.

      >>> import jax
      >>> from jaxopt_tut.training import grid
      >>> def run(hyperparameters, key):
      ...     w = jax.random.normal(key)
      ...     return ((1 - hyperparameters["rate"]) * w) ** 2 / 2
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> swept = sweep(run, grid(rate=[0.5, 1.0, 1.5]), keys=keys)
      >>> float(swept.best().hyperparameters["rate"]), swept.results.shape
      (1.0, (3, 4))
    """
    pairs = as_pairs("sweep", hyperparameters, keys)
    size = _check(strategy, chunk, mesh, executor)
    traced = trace(run, pairs)
    programs, devices = Programs(traced, pairs), Devices(mesh)
    folder = None
    if directory is not None:
        folder = open_folder(directory, identity(traced, pairs), strategy, size)
    plan = folder.plan if folder is not None else None
    if devices.agreed([plan is None])[0]:
        plan = make_plan(programs, devices, strategy, size)
    assert plan is not None  # all processes see the same directory
    for message in plan.messages:
        warnings.warn(f"sweep: {message}", stacklevel=2)
    found: dict[int, list[np.ndarray]] = {}
    chunks = range(-(-pairs.size // plan.chunk))
    if folder is not None:
        if devices.is_first:
            folder.begin(plan, {"strategy": strategy and repr(strategy), "chunk": size})
        folder.plan = plan
        loaded = {at: folder.load(at, traced.shapes) for at in chunks}
        flags = devices.known_to_all([loaded[at] is not None for at in chunks])
        found = {at: one for at, one in loaded.items() if one is not None and flags[at]}
    num_restored = len(found)

    def keep(at: int, leaves: list[np.ndarray]) -> None:
        found[at] = leaves
        if folder is not None and devices.is_first:
            folder.save(at, leaves)

    errors: dict[int, str] = {}
    todo = [at for at in chunks if at not in found]
    if executor is not None:
        errors = run_on(executor, run, traced, pairs, plan, todo, keep)
        if errors and not found:
            raise RuntimeError(
                f"sweep got no chunk from its workers: {next(iter(errors.values()))}"
            )
    else:

        def job(at: int, device: Any) -> list[np.ndarray]:
            given = pairs.take(np.arange(at * plan.chunk, (at + 1) * plan.chunk))
            return programs.run_chunk(plan.lanes, *given, device, pairs.size - at * plan.chunk)

        for at, leaves in devices.run(todo, job):
            keep(at, leaves)
    swept = _assemble(traced, pairs, plan, found, num_restored, errors)
    for message in swept.messages[len(plan.messages) :]:
        warnings.warn(f"sweep: {message}", stacklevel=2)
    return swept


def _check(strategy: Any, chunk: Any, mesh: Any, executor: Any) -> int | None:
    """Refuse arguments that do not go together, and return the chunk."""
    if not (strategy is None or isinstance(strategy, Vmap | Map)):
        raise TypeError(f"sweep needs Vmap(), Map(lanes) or None as strategy, got {strategy!r}.")
    if mesh is not None and executor is not None:
        raise ValueError("sweep needs a mesh or an executor, got both.")
    if mesh is not None and not isinstance(mesh, Mesh):
        raise TypeError(f"sweep needs a mesh of jax.make_mesh, got {type(mesh).__name__}.")
    if chunk is None:
        return None
    size = as_count("sweep", "chunk", chunk)
    lanes = strategy.lanes if isinstance(strategy, Map) else 1
    if size < 1 or size % lanes:
        rule = "chunk >= 1" if size < 1 else f"a chunk that lanes={lanes} divides"
        raise ValueError(f"sweep needs {rule}, got chunk={size}.")
    return size


def _assemble(
    traced: Traced,
    pairs: Pairs,
    plan: Plan,
    found: dict[int, list[np.ndarray]],
    num_restored: int,
    errors: dict[int, str],
) -> Sweep:
    """Put the chunks in a row and the row into its two axes."""
    shape = (pairs.num_configurations, len(pairs.keys))
    num = -(-pairs.size // plan.chunk)
    leaves = []
    for at, (one, kind) in enumerate(zip(traced.shapes, traced.implementations, strict=True)):
        is_inexact = jnp.issubdtype(one.dtype, jnp.inexact)
        missing = np.full((plan.chunk, *one.shape), np.nan if is_inexact else 0, one.dtype)
        parts = [found[c][at] if c in found else missing for c in range(num)]
        values = np.concatenate(parts)[: pairs.size].reshape(*shape, *one.shape)
        leaves.append(
            values if kind is None else jax.random.wrap_key_data(jnp.asarray(values), impl=kind)
        )
    results = jax.tree.unflatten(traced.structure, leaves)
    done = np.repeat([c in found for c in range(num)], plan.chunk)[: pairs.size].reshape(shape)
    messages = list(plan.messages)
    if errors:
        chunk, why = next(iter(errors.items()))
        messages.append(
            f"{np.sum(~done)} of {done.size} pairs are missing, since {len(errors)} of {num} "
            f"chunks failed: chunk {chunk} by {why.rstrip('.')}."
        )
    return Sweep(
        hyperparameters=pairs.tree(pairs.leaves),
        results=results,
        finite=np.broadcast_to(finite_pairs(results), shape) & done,
        done=done,
        timings=plan.timings,
        strategy=plan.strategy,
        chunk=plan.chunk,
        num_restored=num_restored,
        messages=tuple(messages),
        failures=tuple(errors.items()),
    )
