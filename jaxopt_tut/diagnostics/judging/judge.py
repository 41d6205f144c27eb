"""Read verdicts off statistics."""

from collections.abc import Sequence

import numpy as np

from jaxopt_tut.diagnostics.judging.backward import judge_backward
from jaxopt_tut.diagnostics.judging.forward import judge_forward
from jaxopt_tut.diagnostics.judging.learning_rate import judge_learning_rate
from jaxopt_tut.diagnostics.judging.scales import judge_inputs, judge_logits, judge_signal
from jaxopt_tut.diagnostics.judging.steps import Step, steps_of
from jaxopt_tut.diagnostics.judging.units import (
    is_constant,
    judge_collapse,
    judge_dead,
    judge_saturated,
    judge_symmetric,
)
from jaxopt_tut.diagnostics.judging.verdicts import ORDER, Verdict
from jaxopt_tut.diagnostics.measuring.results import Statistics


def judge(statistics: Statistics) -> tuple[Verdict, ...]:
    """Judge what was measured, as NumPy arrays: verdicts, the worst first, one a cause."""
    steps = list(steps_of(statistics))
    if not statistics.is_finite:
        return (_non_finite(steps, statistics),)  # NaN makes all other numbers meaningless
    # What is masked or padded and does no harm has no size to judge.
    steps = [one for one in steps if not any(_shares_nonfinite(one))]
    empty = tuple(judge_signal(steps))
    if empty:
        return empty  # all other numbers are those of biases
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
    kept = _one_a_cause(_without_consequences(verdicts, steps), statistics)
    return tuple(sorted(kept, key=lambda verdict: ORDER.index(verdict.kind)))


_OF_SIZE = ("dead", "exploding", "vanishing", "saturated", "rank_collapse", "logits_too_large")


def _without_consequences(verdicts: Sequence[Verdict], steps: Sequence[Step]) -> list[Verdict]:
    """Leave out what is said of sizes where all units are alike: of weights to be drawn anew."""
    plain = lambda name: name.split("[")[0]
    alike = {plain(verdict.layer) for verdict in verdicts if verdict.kind == "symmetric"}
    if alike:  # the last layer's units are told apart by the loss, but start alike as the others
        alike |= {plain(one.name) for one in steps if is_constant(one)}
    return [v for v in verdicts if v.kind not in _OF_SIZE or plain(v.layer) not in alike]


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


_PLACES = (
    ("weights", "weights"), ("inputs", "inputs"), ("pre_activations", "pre-activations"),
    ("activations", "activations"), ("cotangents", "cotangents"),
    ("weight_gradients", "weight gradients"),
)  # fmt: skip


def _shares_nonfinite(one: Step) -> list[float]:
    """List the shares of a layer's arrays that are NaN or infinite."""
    summaries = [getattr(one.numbers, field) for field, _ in _PLACES]
    return [0.0 if one is None else float(one.fraction_nonfinite) for one in summaries]


def _non_finite(steps: Sequence[Step], statistics: Statistics) -> Verdict:
    what = "the loss" if not np.isfinite(statistics.loss) else "the gradient of the loss"
    layer, evidence = steps[-1].name, f"all layers are finite, {what} is not"
    forwards = [(one, k) for k in range(4) for one in steps]
    backwards = [(one, k) for k in (4, 5) for one in steps[::-1]]
    for one, k in forwards + backwards:
        share = _shares_nonfinite(one)[k]
        if share:
            layer, evidence = one.name, f"{share:.1%} of the {_PLACES[k][1]} are NaN or infinite"
            break
    return Verdict(
        "non_finite",
        layer,
        evidence,
        "an overflow, a division by zero or the logarithm of zero at or before this place",
        "find the operation with diagnostics.first_nonfinite, in the backward pass with "
        "gradient=True",
    )
