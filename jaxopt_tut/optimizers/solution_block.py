"""What is worth reading of a solution: of one search, of a batch, or under a trace."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxopt_tut.blocks import brief, has_numbers, number, numbers, spread_of
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.types import PyTree

Rows = list[tuple[str, str]]


def solution_block(solution: Any, sentence: Callable[[Any], str]) -> tuple[str, Rows]:
    """Return the title and the rows of a `Solution`, whose codes have these sentences."""
    codes = numbers(getattr(solution.status, "code", None))
    if codes is not None and codes.ndim > 0:
        title = f"Solution of {' x '.join(map(str, codes.shape))} searches"
        rows = [("messages", _counts(codes, sentence))]
    else:
        title = "Solution"
        rows = [("message", _unknown(solution) if codes is None else sentence(codes))]
    for name in ("value", "grad_norm", "steps", "evaluations"):
        rows.append((name, _measure(getattr(solution, name))))
    only_shapes = codes is None or codes.ndim > 0
    rows.append(("params", brief(solution.params, only_shapes=only_shapes)))
    if solution.active is not None:
        rows.append(("active", _bounds_held(solution.active)))
    outside = numbers(solution.start_was_outside)
    if outside is not None and outside.any():
        moved = f"{outside.sum()} of {outside.size}, " if outside.ndim else ""
        rows.append(("start", f"{moved}moved into the bounds"))
    if solution.history is not None:
        rows.append(("history", _num_points(solution.history)))
    if solution.aux is not None:
        rows.append(("aux", brief(solution.aux, only_shapes=only_shapes)))
    return title, rows


def history_block(history: Any) -> tuple[str, Rows]:
    """Return the title and the rows of a `History`: the numbers at its ends."""
    value = history.value
    title, shown = "History", lambda rows: brief(rows, only_shapes=True)
    if has_numbers(value) and np.ndim(value) == 1 and np.size(value):
        title = f"History of {_num_points(history)}"
        shown = lambda rows: f"{number(rows[0])} at the start, {number(rows[-1])} at the end"
    return title, [
        ("value", shown(history.value)),
        ("grad_norm", shown(history.grad_norm)),
        ("params", brief(history.params, only_shapes=True)),
    ]


def _counts(codes: np.ndarray, sentence: Callable[[Any], str]) -> str:
    """Return how many searches ended how, most first."""
    found, counts = np.unique(codes, return_counts=True)
    most_first = np.argsort(-counts, kind="stable")
    width = len(str(codes.size))
    lines = [f"{counts[i]:{width}}  {sentence(found[i])}" for i in most_first]
    return "\n".join(lines) or "none"


def _measure(value: Any) -> str:
    found = numbers(value)
    if found is None or found.ndim == 0 or found.dtype.kind not in "biuf":
        return number(value)
    return spread_of(found) if found.size else "none"


def _unknown(solution: Any) -> str:
    """Return why there is no message: arrays may be deleted, and trees hold other things."""
    code = getattr(solution.status, "code", None)
    is_form = is_traced(code) or isinstance(code, jax.ShapeDtypeStruct)
    return "not known under a trace" if is_form else "not known"


def _bounds_held(active: PyTree) -> str:
    """Return how many parameters are at which bound."""
    leaves = [found for leaf in jax.tree.leaves(active) if (found := numbers(leaf)) is not None]
    if len(leaves) < len(jax.tree.leaves(active)):
        return brief(active)
    codes = np.concatenate([leaf.ravel() for leaf in leaves])
    places = {-1: "at the lower bound", 1: "at the upper bound", 2: "between two that are equal"}
    held = [f"{np.sum(codes == at)} {words}" for at, words in places.items() if at in codes]
    return f"{', '.join(held) or 'none'}, of {codes.size}"


def _num_points(history: Any) -> str:
    shape = getattr(getattr(history, "value", None), "shape", ())
    if not shape:
        return brief(history)
    return f"{shape[-1]} point" + ("s" if shape[-1] != 1 else "")
