"""A diagnosis as text."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array

from jaxopt_tut.diagnostics.diagnosis import Diagnosis
from jaxopt_tut.diagnostics.measuring.results import LayerStatistics
from jaxopt_tut.diagnostics.measuring.summaries import Summary

_MAX_STEPS = 8
_COLOR = "\x1b[31m{}\x1b[0m"


def report(diagnosis: Diagnosis, *, color: bool = False) -> str:
    r"""Write a diagnosis as aligned text: one row a layer, then the verdicts.

    $$\mathrm{row}_l = \bigl(\operatorname{Var} W_l,\; \operatorname{Var} z_l,\; P(a_l = 0),\;
      \mathrm{rms}\, \delta_l,\; \mathrm{rms}\, G_l,\; \mathrm{rms}\,\Delta W_l / \mathrm{rms}\,
      W_l \bigr)$$

    Of a scan of more than eight steps eight are shown, evenly spread.

    Args:
      diagnosis: What `diagnose` returned.
      color: Mark what is wrong in red, for a terminal.

    Returns:
      The text, lines separated by newlines.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxopt_tut.diagnostics import diagnose
      >>> from jaxopt_tut.models import mlp
      >>> x = jax.random.normal(jax.random.key(0), (64, 32))
      >>> params = mlp.init(jax.random.key(1), (32, 32, 4))
      >>> def loss_fn(params, x):
      ...     return jnp.mean(mlp.apply(params, x) ** 2)
      >>> print(report(diagnose(loss_fn, params, x)).splitlines()[-1])
      No verdicts: nothing out of the ordinary.
    """
    header = ["layer", "Var w", "Var z", "a = 0", "sat.", "dead", "corr.", "rms dz", "rms dw"]
    header += ["update/w"]
    sick = {verdict.layer for verdict in diagnosis.verdicts}
    rows = []
    for name, layer in diagnosis.layers.items():
        lengths = np.shape(layer.correlation)
        indices = list(np.ndindex(*lengths))
        if len(indices) > _MAX_STEPS:
            chosen = np.linspace(0, len(indices) - 1, _MAX_STEPS).round().astype(int)
            indices = [indices[i] for i in chosen]
        for index in indices:
            shown = name + (f"[{','.join(map(str, index))}]" if index else "")
            rows.append([shown, *_cells(layer, index)])
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    lines = [_line(header, widths), "  ".join("-" * width for width in widths)]
    for row in rows:
        line = _line(row, widths)
        lines.append(_COLOR.format(line) if color and row[0] in sick else line)
    lines.append("")
    for verdict in diagnosis.verdicts:
        head = f"{verdict.kind} at {verdict.layer}"
        lines.append(_COLOR.format(head) if color else head)
        lines += [
            f"  evidence: {verdict.evidence}.",
            f"  cause:    {verdict.cause}.",
            f"  fix:      {verdict.fix}.",
        ]
    if not diagnosis.verdicts:
        lines.append("No verdicts: nothing out of the ordinary.")
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = [
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([first, *rest]).rstrip()


def _cells(layer: LayerStatistics, index: tuple[int, ...]) -> list[str]:
    # What belongs to a weight may have fewer steps than the rest.
    def at(array: Array | np.ndarray | np.floating) -> float:
        return float(np.asarray(array)[index[: array.ndim]])

    def size(summary: Summary) -> float:
        return math.sqrt(at(summary.mean_square))

    ratio = at(layer.update_ratio)
    return [
        f"{at(layer.weights.variance):.2g}",
        f"{at(layer.pre_activations.variance):.3g}",
        f"{at(layer.activations.fraction_zero):.0%}",
        f"{at(layer.fraction_saturated):.0%}",
        f"{at(layer.fraction_dead):.0%}",
        f"{at(layer.correlation):.3f}",
        f"{size(layer.cotangents):.1e}",
        f"{size(layer.weight_gradients):.1e}",
        "-" if np.isnan(ratio) else f"{ratio:.1e}",
    ]
