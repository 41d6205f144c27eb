"""Read verdicts off statistics."""

from collections.abc import Sequence

import numpy as np

from jaxopt_tut.diagnostics.backward import judge_backward
from jaxopt_tut.diagnostics.forward import judge_forward
from jaxopt_tut.diagnostics.layer_statistics import Statistics
from jaxopt_tut.diagnostics.learning_rate import judge_learning_rate
from jaxopt_tut.diagnostics.scales import judge_inputs, judge_logits
from jaxopt_tut.diagnostics.units import (
    judge_collapse,
    judge_dead,
    judge_saturated,
    judge_symmetric,
)
from jaxopt_tut.diagnostics.verdicts import ORDER, Step, Verdict, steps_of


def judge(statistics: Statistics) -> tuple[Verdict, ...]:
    """Judge measured statistics.

    Args:
      statistics: What `statistics` returned, as NumPy arrays.

    Returns:
      The verdicts, the worst first; within a kind, over the steps of a scan and in a cell the
      first to show it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxopt_tut.diagnostics.statistics import statistics
      >>> from jaxopt_tut.models import mlp
      >>> params = mlp.init(jax.random.key(0), (8, 64, 64, 4))
      >>> x = 300.0 * jax.random.normal(jax.random.key(1), (32, 8))
      >>> def loss_fn(params, x):
      ...     return jnp.mean(mlp.apply(params, x) ** 2)
      >>> measured = jax.jit(statistics, static_argnums=0)(loss_fn, params, x)
      >>> judge(jax.device_get(measured))[0].kind
      'input_not_normalized'
    """
    steps = list(steps_of(statistics))
    broken = _non_finite(steps, statistics)
    if broken is not None:
        return (broken,)  # NaN makes all other numbers meaningless
    verdicts = [
        *judge_inputs(steps),
        *judge_forward(steps),
        *judge_backward(steps),
        *judge_symmetric(steps),
        *judge_dead(steps),
        *judge_saturated(steps),
        *judge_collapse(steps),
        *judge_logits(steps),
        *judge_learning_rate(steps, statistics),
    ]
    kept = _one_a_cause(verdicts, statistics)
    return tuple(sorted(kept, key=lambda verdict: ORDER.index(verdict.kind)))


def _one_a_cause(verdicts: Sequence[Verdict], statistics: Statistics) -> list[Verdict]:
    """Keep the first verdict of a kind on a weight, and on a cell, whose gates are one case."""
    wiring = {layer.name: layer for layer in statistics.wiring}
    together: dict[tuple, list[Verdict]] = {}
    for verdict in verdicts:
        layer = wiring[verdict.layer.split("[")[0]]
        whose = layer.use.loop or (layer.param if layer.use.is_recurrent else layer.name)
        together.setdefault((verdict.kind, whose), []).append(verdict)
    kept = []
    for first, *others in together.values():
        names = dict.fromkeys(other.layer.split("[")[0] for other in others)
        names.pop(first.layer.split("[")[0], None)
        beside = f"; likewise {', '.join(names)}" if names else ""
        kept.append(first._replace(evidence=first.evidence + beside))
    return kept


def _non_finite(steps: Sequence[Step], statistics: Statistics) -> Verdict | None:
    places = [
        (one.name, what, getattr(one.numbers, field))
        for field, what, order in (
            ("weights", "weights", steps),
            ("inputs", "inputs", steps),
            ("pre_activations", "pre-activations", steps),
            ("activations", "activations", steps),
            ("cotangents", "cotangents", steps[::-1]),
            ("weight_gradients", "weight gradients", steps[::-1]),
        )
        for one in order
    ]
    evidence = "" if np.isfinite(statistics.loss) else "all layers are finite, the loss is not"
    layer = steps[-1].name
    for name, what, summary in places:
        if summary is not None and summary.fraction_nonfinite > 0:
            evidence = f"{summary.fraction_nonfinite:.1%} of the {what} are NaN or infinite"
            layer = name
            break
    if not evidence:
        return None
    return Verdict(
        "non_finite",
        layer,
        evidence,
        "an overflow, a division by zero or the logarithm of zero at or before this place",
        "find the operation with diagnostics.first_nonfinite, in the backward pass with "
        "gradient=True",
    )
