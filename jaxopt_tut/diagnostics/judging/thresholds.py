r"""Where verdicts begin: thresholds that follow mean-field theory.

At depth l, counted in layers from the data (a step of a scan is a layer more), theory says what a
healthy network shows; a verdict is due an order of magnitude beyond it.

* Forward: a critical tanh network shrinks like $1/(2l)$, a layer of flax's schemes makes 0.5 to 2
  times the mean square of its input, one of equinox's or PyTorch's a third. `"vanishing"` below
  `0.002 m / l`, `"exploding"` above `30 m` (m: mean square of the data, 1 where the data are looked
  up or not normalised either). Of one layer alone: the gain $g = n E[V^2]$, for a fan-in n and the
  matrix V that meets the input, with all constants that follow: below 0.03, or above 20. A layer
  from n inputs to m units that Glorot draws has $g = 2n / (n + m)$ on purpose, so a small gain
  counts only where $g (n + m) / 2n$ is below 0.3, too. With few
  outputs the measured factor scatters, and a bias adds to it; an aligned input adds to it too:
  hence both must be small, or one large where what arrives is not small.
* Backward: the total $\sum_i \delta_i^2$ of a layer against that of the last, beyond a factor
  `1e4` for every ten layers in between. A query, a key or a gate may hear less than its
  neighbours: small is what no layer of that depth or before exceeds. A cell may forget, but not
  at once: 0.03 a step in time; a forget gate that stands at a half leaves 0.25.
* `"dead"`: for pre-activations with correlation c between n examples the share of units that are
  off for all of them is $\int \varphi(t)\, \Phi(-t \sqrt{c / (1 - c)})^n\, dt$: almost a half in
  a deep network, where c is near 1. The verdict is due 0.25 above that.
* `"rank_collapse"`: at the edge of chaos $1 - c \approx 9 \pi^2 / (2 l^2)$ for ReLU, the slowest
  algebraic decay; the verdict is due at a tenth of that, and never above `1 - c = 5e-4`: means
  over pixels or nodes and biases leave 0.003, and do not stand in the way of training.
* `"saturated"`: 40 % of a layer's activations have a slope below 0.05. At unit variance 3 % of
  tanh's have, at variance 4 some 28 %.
* `"symmetric"`: the gradients of a layer's units take a quarter of the possible values or fewer.
* `"no_signal"`: all that the first layers read is zero, and no embeddings.
* `"input_not_normalized"`: mean square of the data above 25 or below 1e-4, or mean over standard
  deviation above 5.
* `"logits_too_large"`: standard deviation above 6 in the last layer.
* `"lr_too_high"`: the first step raises the loss of its own batch by 2 %, or an update is as
  large as a fifth of its weight and no line search has tried it. `"lr_too_low"`: all updates are
  below 1e-4 of their weights for 64 steps, and have not grown 1.5-fold since the 32nd.
* `"non_finite"`: a NaN or infinity in the loss or its gradient; inside, as in a mask, it may be.
"""

from typing import NamedTuple

from jaxopt_tut.diagnostics.measuring.first_step import TINY_UPDATE


class Thresholds(NamedTuple):
    """Where verdicts begin, twenty numbers; the module says what each of them means.

    Example:
      >>> THRESHOLDS.vanishing, Thresholds(vanishing=0.01).vanishing
      (0.002, 0.01)
    """

    vanishing: float = 0.002
    exploding: float = 30.0
    small_factor: float = 0.03
    large_gain: float = 20.0
    balanced: float = 0.3
    small_arrival: float = 0.05
    backward: float = 1e4
    memory: float = 0.03
    dead_above_prediction: float = 0.25
    saturated: float = 0.4
    symmetric: float = 0.25
    collapse: float = 5e-4
    large_input: float = 25.0
    small_input: float = 1e-4
    shifted_input: float = 5.0
    logits: float = 36.0
    high_update: float = 0.2
    low_update: float = TINY_UPDATE
    rise: float = 0.02
    growth: float = 1.5


THRESHOLDS = Thresholds()
