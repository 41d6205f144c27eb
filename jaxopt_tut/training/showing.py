"""What is worth reading of a training: how it ended, its numbers at the ends, how much there is."""

from typing import Any

import numpy as np

from jaxopt_tut.blocks import amount, brief, has_numbers, in_a_line, number, numbers
from jaxopt_tut.tracing import known

Rows = list[tuple[str, str]]


def fit_block(result: Any) -> tuple[str, Rows]:
    """Return the title and the rows of a `FitResult`."""
    history_title, curves = history_block(result.history)
    best = f"epoch {number(result.best_epoch)}"
    if not _is_nan(result.best_score):
        best += f", with a score of {number(result.best_score)}"
    rows = [
        ("message", result.message),
        ("finite", number(result.finite)),
        ("history", history_title.removeprefix("History of ")),
        *((f"  {name}", text) for name, text in curves[:8]),
        ("best", best),
        (
            "params",
            brief(result.params, only_shapes=True)
            if _is_few(result.params)
            else amount(result.params),
        ),
        ("opt_state", amount(result.opt_state)),
    ]
    if result.model_state is not None:
        rows.append(("model_state", amount(result.model_state)))
    if result.resumed_from is not None:
        rows.append(("resumed_from", f"step {result.resumed_from}"))
    rows += [("warning", text) for text in result.warnings[:3]]
    return "FitResult", rows


def history_block(history: Any) -> tuple[str, Rows]:
    """Return the title and the rows of a `History`: the numbers of the first and the last epoch."""
    epochs = max((_length(column) for column in history.train.values()), default=0)
    steps = max((_length(column) for column in history.steps.values()), default=0)
    plural = lambda count, word: f"{count:,} {word}" + ("s" if count != 1 else "")
    rows = [
        (f"{side} {name}", _ends(column))
        for side, columns in (("train", history.train), ("validation", history.validation))
        for name, column in columns.items()
    ]
    if history.diagnoses:
        found = ", ".join(str(step) for step in list(history.diagnoses)[:8])
        more = ", ..." if len(history.diagnoses) > 8 else ""
        rows.append(("diagnoses", f"at the steps {found}{more}"))
    if history.probes:
        rows.append(
            ("probes", f"{', '.join(history.probes)}: {_length(history.probe_steps)} times")
        )
    return f"History of {plural(epochs, 'epoch')}, {plural(steps, 'step')}", rows


def trained_block(trained: Any) -> tuple[str, Rows]:
    """Return the title and the rows of a `Trained`, of one run or of a batch of them."""
    curves = {"loss": trained.losses, **trained.metrics}
    rows = [(name, _ends(column)) for name, column in list(curves.items())[:10]]
    rows += [(name, in_a_line(getattr(trained, name))) for name in ("num_taken", "finite")]
    rows += [(name, amount(getattr(trained, name))) for name in ("params", "opt_state")]
    if trained.model_state is not None:
        rows.append(("model_state", amount(trained.model_state)))
    return "Trained", rows


def sweep_block(swept: Any, scores: Any) -> tuple[str, Rows]:
    """Return the title and the rows of a `Sweep`, with the best of its scores if it has any."""
    title, rows = "Sweep", []
    done, finite = numbers(swept.done), numbers(swept.finite)
    if done is not None and done.ndim == 2:
        title = f"Sweep of {done.shape[0]} configurations with {done.shape[1]} keys each"
        rows.append(("done", f"{done.sum()} of {done.size}"))
    if finite is not None:
        rows.append(("finite", f"{finite.sum()} of {finite.size}"))
    rows.append(("hyperparameters", in_a_line(swept.hyperparameters)))
    rows.append(("results", in_a_line(swept.results)))
    if scores is not None and np.isfinite(means := scores.mean(axis=1)).any():
        at = int(np.argmin(means))
        rows.append(("best", f"configuration {at}, with a mean score of {means[at]:.6g}"))
    rows += [(name, in_a_line(getattr(swept, name))) for name in ("strategy", "chunk")]
    rows += [("message", text) for text in swept.messages[:4]]
    rows += [("failure", f"chunk {chunk}: {why}"[:160]) for chunk, why in swept.failures[:4]]
    return title, rows


def _length(column: Any) -> int:
    shape = np.shape(column) if not hasattr(column, "shape") else column.shape
    return shape[-1] if shape else 0


def _ends(column: Any) -> str:
    """Return the first and the last number that is one, and the best between them."""
    found = numbers(column) if has_numbers(column) and np.ndim(column) == 1 else None
    if found is None:
        return in_a_line(column)
    if not found.size:
        return "nothing yet"
    count = found.size
    found = found[~np.isnan(found)] if found.dtype.kind == "f" else found
    if not found.size:
        return f"nan in all {count}" if count > 1 else "nan"
    if found.size == 1:
        return number(found[0])
    return f"{number(found[0])} at first, {number(found[-1])} at last"


def _is_few(tree: Any) -> bool:
    return len(brief(tree, only_shapes=True).splitlines()) <= 4


def _is_nan(value: Any) -> bool:
    return has_numbers(value) and np.ndim(value) == 0 and bool(np.isnan(np.asarray(known(value))))
