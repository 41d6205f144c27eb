"""Chunks in other processes, by any executor of `concurrent.futures`."""

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from jaxopt_tut.training.sweeps.pairs import Pairs
from jaxopt_tut.training.sweeps.planning import Plan
from jaxopt_tut.training.sweeps.program import Programs, Run, Traced, trace
from jaxopt_tut.training.sweeps.settings import Settings

LARGEST = 32 * 2**20
"""Bytes of `run` that are sent with every chunk."""

Leaves = list[np.ndarray]


Kind = tuple[bytes, Any, Settings, int]
"""Function and tree, implementation of the keys, settings, lanes: what a program depends on."""


def run_on(
    executor: Executor,
    run: Run,
    traced: Traced,
    pairs: Pairs,
    plan: Plan,
    chunks: Sequence[int],
    keep: Callable[[int, Leaves], None],
) -> dict[int, str]:
    """Have chunks run and hand each over as it comes; return what became of the others."""
    _check_start(executor)
    payload = _pickled(run, pairs)
    kind = payload, pairs.implementation, Settings.here(), plan.lanes
    futures: dict[Future, int] = {}
    errors: dict[int, str] = {}
    try:
        for chunk in chunks:
            given = pairs.take(np.arange(chunk * plan.chunk, (chunk + 1) * plan.chunk))
            try:
                futures[executor.submit(run_chunk, kind, *given)] = chunk
            except RuntimeError as error:  # a broken pool takes no more
                errors[chunk] = _said(error)
        for future in as_completed(futures):
            chunk = futures[future]
            try:
                leaves = future.result()
            except Exception as error:
                errors[chunk] = _said(error)
                continue
            expected = [((plan.chunk, *one.shape), one.dtype) for one in traced.shapes]
            if [(leaf.shape, leaf.dtype) for leaf in leaves] == expected:
                keep(chunk, leaves)
            else:
                errors[chunk] = "The result is of another form: are the versions others there?"
    finally:
        for future in futures:
            future.cancel()
    return dict(sorted(errors.items()))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def run_chunk(kind: Kind, leaves: Leaves, words: np.ndarray) -> Leaves:
    """Run the pairs of one chunk in a worker, in the groups and settings of the sweep."""
    *_, settings, lanes = kind
    with settings.applied():
        forms = tuple((leaf.shape[1:], leaf.dtype.name) for leaf in (*leaves, words))
        return _programs(kind, forms).run_chunk(lanes, leaves, words)


@lru_cache(maxsize=8)
def _programs(kind: Kind, forms: tuple[tuple[tuple[int, ...], str], ...]) -> Programs:
    """Trace a run once a worker, however many of its chunks come there."""
    payload, implementation, *_ = kind
    run, tree = pickle.loads(payload)
    *leaves, words = (np.zeros((1, *shape), dtype) for shape, dtype in forms)
    pairs = Pairs(
        tuple(leaves), jax.tree.structure(tree), ("",) * len(leaves), words, implementation
    )
    return Programs(trace(run, pairs), pairs)


def _pickled(run: Run, pairs: Pairs) -> bytes:
    """Pickle a function by value where cloudpickle is there, by its name where it is not."""
    try:
        import cloudpickle as pickler  # comes with distributed
    except ImportError:
        pickler = pickle
    try:
        payload = pickler.dumps((run, pairs.tree(range(len(pairs.leaves)))))
    except Exception as error:
        advice = ""
        if pickler is pickle:
            advice = "; define it at the top of a module, or install cloudpickle"
        raise ValueError(
            f"sweep needs a run that can be sent to other processes, got {_said(error)}{advice}."
        ) from error
    if len(payload) > LARGEST:
        raise ValueError(
            f"sweep sends run to the workers with every chunk, got one of {len(payload) / 1e6:.0f} "
            "MB, which closes over data: let it read them itself, by a function of a module under "
            "functools.cache."
        )
    return payload


def _check_start(executor: Any) -> None:
    """Refuse processes that are forked: JAX's threads are not there, and they hang."""
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "sweep needs an executor of concurrent.futures, as Client(...).get_executor() is one, "
            f"got {type(executor).__name__}."
        )
    if isinstance(executor, ProcessPoolExecutor):
        context = getattr(executor, "_mp_context", None)
        if context is not None and context.get_start_method() == "fork":
            raise ValueError(
                "sweep needs a pool of processes that are spawned, ProcessPoolExecutor(n, "
                'mp_context=multiprocessing.get_context("spawn")), got one that forks: the '
                "threads of JAX do not survive that."
            )
