"""What a verdict is, and the remedy that most of them name."""

from typing import NamedTuple

from jaxopt_tut.blocks import shown
from jaxopt_tut.diagnostics.judging.steps import Step
from jaxopt_tut.diagnostics.showing import verdict_block

ORDER: tuple[str, ...] = (
    "non_finite", "no_signal", "input_not_normalized", "symmetric", "dead", "exploding",
    "vanishing", "saturated", "rank_collapse", "logits_too_large", "lr_too_high", "lr_too_low",
)  # fmt: skip
"""What can be wrong, causes before what they cause."""


@shown
class Verdict(NamedTuple):
    """One thing that is wrong.

    Attributes:
      kind: What.
      layer: Where: the name of a layer, `[k]` behind it for step k of a scan.
      evidence: The numbers that say so.
      cause: The probable cause.
      fix: What to do.
    """

    kind: str
    layer: str
    evidence: str
    cause: str
    fix: str

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return what and where, and the sentences on it."""
        return verdict_block(self)


def suitable_gain(one: Step) -> float:
    """Return the fan-in times the variance of weights that suits: 2 behind a rectifier, else 1."""
    inputs = one.numbers.inputs
    return 2.0 if inputs is not None and 0.2 < inputs.fraction_zero < 0.9 else 1.0


def initializer(one: Step) -> str:
    """Write the call of the initializer that suits a layer."""
    name = "kaiming_normal()" if suitable_gain(one) == 2.0 else "equal_variance()"
    return f"initializers.{name}"
