"""How sharp the loss is around a network, in any sense."""

from typing import Any

import jax

from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.flatness.around import LossAround, SharpnessKind
from jaxopt_tut.curvature.flatness.largest_eigenvalue import LargestEigenvalue
from jaxopt_tut.curvature.functions import bind_function
from jaxopt_tut.curvature.hessian import HessianRule
from jaxopt_tut.curvature.means import Point, mean_operator
from jaxopt_tut.devices import Devices
from jaxopt_tut.keys import require_key
from jaxopt_tut.loss_forms import LOSS, read_form
from jaxopt_tut.types import LossFn, PRNGKey, PyTree


def sharpness(
    loss_fn: LossFn,
    params: PyTree,
    *batches: Any,
    kind: SharpnessKind | None = None,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
    batch_size: int | None = None,
    mesh: Devices | None = None,
) -> Estimate:
    r"""Return how sharp the loss is around a network, in one of several senses.

    | kind | what it is | on a quadratic | cost over all data |
    | --- | --- | --- | --- |
    | `LargestEigenvalue` | of the Hessian | $\lambda_1(H)$ | 20 gradients or more |
    | `Ascent` | the largest rise in a ball | $\max g^\top e + e^\top H e / 2$ | a gradient a step |
    | `AverageCase` | the mean rise under noise | $\rho^2 \operatorname{tr} H / 2$ | 200 values |
    | `Critical` | 2 over the rate raising it | $g^\top H g / g^\top g$ | a gradient, 10 values |

    All but the last two words of the table hold for `adaptive=True`, too, with $T H T$ and $T g$ in
    the places of H and g, $T = \mathrm{diag}\,|w|$. Two ReLU layers, of which one is multiplied by
    a number and the other divided by it, are the same function with another Hessian: what is plain
    changes by any factor, what is adaptive stays. `stability_limit` says how large the largest
    eigenvalue and the critical sharpness can be while an optimizer settles.

    Everything is a mean over all examples; a model that normalises over its batch sees chunks of
    `batch_size`, so that the loss is then the mean of losses of chunks. Where nothing is traced
    chunks are led by the host; under `jit`, `vmap` and `grad` everything is one program. All but
    draws can be differentiated with respect to the parameters, too.

    Args:
      loss_fn: A loss of any form, see `training.fit`: `(params, batch)`, with a key and a state
        behind if it takes them; what it draws is the same in every evaluation.
      params: A model of any kind, or a tree of floating or complex arrays.
      *batches: Data of any kind: arrays, a `Dataset`, several batches of unequal size, what yields
        batches from the host. The kind may stand behind them.
      kind: The sense, a value; `LargestEigenvalue()` by default.
      key: For kinds that draw, and losses that do.
      model_state: For a loss with a state, which stays.
      batch_size: Examples in a chunk; all by default.
      mesh: Devices to split chunks over, along the first axis.

    Returns:
      The sharpness, with its standard error, 0 where nothing is drawn. What is not finite in the
      loss is not finite in it.

    Raises:
      TypeError: If `kind` is none, `key` not one key, the loss cannot be called so, a leaf is
        neither floating nor complex, or batches can be gone through but once or come from the
        host under a transformation.
      ValueError: If a kind draws and there is no `key`, the loss is no real scalar, or
        `batch_size` is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.curvature import Ascent, sharpness
      >>> loss_fn = lambda w, x: jnp.mean((x @ w) ** 2)
      >>> x, w = jnp.array([[1.0, 0.0], [0.0, 3.0]]), jnp.array([1.0, 0.0])
      >>> # along the gradient the loss is (1 + r)**2 / 2
      >>> print(f"{sharpness(loss_fn, w, x, kind=Ascent(0.2)).mean:.3f}")
      0.220

    References:
      Dinh et al. (2017), Sharp minima can generalize for deep nets, section 4.
      https://arxiv.org/abs/1703.04933
      Those of the kinds.
    """
    if kind is None and batches and isinstance(batches[-1], SharpnessKind):
        batches, kind = batches[:-1], batches[-1]
    kind = LargestEigenvalue() if kind is None else kind
    if not isinstance(kind, SharpnessKind) or isinstance(kind, type):
        raise TypeError(f"sharpness needs a kind such as Ascent(0.05), got kind={kind!r}.")
    if kind.needs_key and key is None:
        raise ValueError(f"sharpness needs a key for kind={kind!r}, which draws, got key=None.")
    if key is not None:
        require_key("sharpness", key)
    # one key a call: of the loss, whose draws stay, and of what is drawn around it
    loss_key = None
    if callable(loss_fn) and key is not None and _draws(loss_fn, model_state is not None):
        loss_key = jax.random.fold_in(key, LOSS)
    function, space, given = bind_function(
        "sharpness", loss_fn, params, batches, key=loss_key, model_state=model_state
    )
    rule, point = HessianRule(function), Point(space, given)
    hessian = mean_operator("sharpness", rule, point, batches, batch_size, mesh)
    return kind.measure(LossAround(hessian), key)


def _draws(loss_fn: LossFn, has_model_state: bool) -> bool:
    form = read_form("sharpness", loss_fn, has_key=None, has_model_state=has_model_state)
    return form.takes_key
