"""What is worth reading of a diagnosis: what is wrong and where, then a line a layer."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxopt_tut.blocks import in_a_line, number, numbers

Rows = list[tuple[str, str]]

_MOST_VERDICTS, _MOST_LAYERS = 3, 8


def verdict_block(verdict: Any) -> tuple[str, Rows]:
    """Return what is wrong, where, and the three sentences on it."""
    sentences = [(name, getattr(verdict, name)) for name in ("evidence", "cause", "fix")]
    rows = [(name, "\n".join(textwrap.wrap(text, 80)[:7])) for name, text in sentences]
    return f"{verdict.kind} at {verdict.layer}", rows


def diagnosis_block(diagnosis: Any) -> tuple[str, Rows]:
    """Return the verdicts, the worst first, and the layers."""
    verdicts = diagnosis.verdicts
    title = "Diagnosis: nothing out of the ordinary"
    if verdicts:
        count = f"{len(verdicts)} verdicts, the worst" if len(verdicts) > 1 else "one verdict,"
        title = f"Diagnosis: {count} {verdicts[0].kind} at {verdicts[0].layer}"
    rows = []
    for verdict in verdicts[:_MOST_VERDICTS]:
        head = f"{verdict.kind} at {verdict.layer}: {verdict.evidence}"
        fix = textwrap.wrap(f"fix: {verdict.fix}", 84)
        rows.append(("verdict", "\n".join([*textwrap.wrap(head, 84)[:2], *fix[:2]])))
    if len(verdicts) > _MOST_VERDICTS:
        rows.append(("", f"... and {len(verdicts) - _MOST_VERDICTS} more, see report(diagnosis)"))
    return title, [*rows, *layer_rows(diagnosis.layers)]


def statistics_block(statistics: Any) -> tuple[str, Rows]:
    """Return the loss, what a step does to it, and the layers."""
    names = ("loss", "loss_after_update", "expected_change", "is_finite")
    rows = [(name, in_a_line(getattr(statistics, name))) for name in names]
    return "Statistics", [*rows, *layer_rows(statistics.layers)]


def layer_rows(layers: Mapping[str, Any]) -> Rows:
    """Return of each layer the variances, and how much of it is dead."""
    rows = [(name, _layer(layer)) for name, layer in list(layers.items())[:_MOST_LAYERS]]
    more = len(layers) - _MOST_LAYERS
    return [*rows, ("", f"... and {more} layers more")] if more > 0 else rows


def _layer(layer: Any) -> str:
    try:
        parts = {
            "Var w": layer.weights.variance,
            "Var z": layer.pre_activations.variance,
            "Var dz": layer.cotangents.variance,
            "dead": layer.fraction_dead,
        }
    except AttributeError:  # a tree of the same form, such as one of shapes or axes
        return in_a_line(layer)
    return ", ".join(f"{name} {_range(value)}" for name, value in parts.items())


def _range(value: Any) -> str:
    found = numbers(value)
    if found is None or found.dtype.kind not in "biuf":
        return in_a_line(value)
    if not found.ndim:
        return f"{float(found):.3g}"
    if not found.size or np.isnan(found).all():
        return number(np.nan)
    return f"{np.nanmin(found):.3g} to {np.nanmax(found):.3g}"
