"""What optimizers multiply gradients by, read off their state."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.hyperparameters import cast, require_decay, require_nonnegative
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.types import Number, PyTree


def adam_preconditioner(
    opt_state: PyTree,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
) -> PyTree:
    r"""Return what Adam's step divides by, as a scale for `Operator.preconditioned`.

    $$\mathrm{scale} = P^{-1}, \qquad
      P = (1 - \beta_1^t) \, \mathrm{diag}\big(\sqrt{\hat v_t + \epsilon_0} + \epsilon\big), \qquad
      \hat v_t = v_t / (1 - \beta_2^t)$$

    after t updates. Adam hovers where the largest eigenvalue of $P^{-1/2} H P^{-1/2}$ is
    $(2 / \eta)(1 + \beta_1)/(1 - \beta_1)$, see `stability_limit(..., form="adam")`. Before the
    first update nothing is known of $v$: the scale is not a number.

    Args:
      opt_state: A state that has Adam's in it, ours or optax's, however it is wrapped: by `chain`,
        `masked`, `partition`, `inject_hyperparams`, `MultiSteps`. AdamW, NAdam, Yogi and AdaBelief
        keep states of the same form, AMSGrad the largest $\hat v$ so far, which stands in its
        place.
      b1: $\beta_1$ in [0, 1), as the optimizer's.
      b2: $\beta_2$ in [0, 1).
      eps: $\epsilon \ge 0$, outside of the root.
      eps_root: $\epsilon_0 \ge 0$, inside of the root.

    Returns:
      A tree like the parameters, real where they are complex.

    Raises:
      TypeError: If a hyper-parameter is no number.
      ValueError: If there is no state of Adam's, or there are several for one parameter, or none
        for some; or a static hyper-parameter is out of range.

    Example:
      >>> optimizer = optax.adam(0.1, b2=0.5, eps=0.0)
      >>> state = optimizer.init(jnp.zeros(2))
      >>> _, state = optimizer.update(jnp.array([3.0, -4.0]), state)
      >>> print(1 / adam_preconditioner(state, b1=0.0, b2=0.5, eps=0.0))
      [3. 4.]

    References:
      Cohen et al. (2022), Adaptive gradient methods at the edge of stability, section 2.
      https://arxiv.org/abs/2207.14484
    """
    caller = "adam_preconditioner"
    require_decay(caller, b1=b1, b2=b2)
    require_nonnegative(caller, eps=eps, eps_root=eps_root)
    states = _states_of_adam(opt_state)
    if not states:
        raise ValueError(
            f"{caller} needs a state with Adam's in it, a count with averages mu and nu, got none "
            f"in {type(opt_state).__name__}."
        )
    scales = [_scale(state, b1, b2, eps, eps_root) for state in states]
    scale = scales[0]
    for other in scales[1:]:
        scale = _merged(scale, other)
    if any(map(_is_left_out, jax.tree.leaves(scale, is_leaf=_is_left_out))):
        raise ValueError(
            f"{caller} needs averages of all parameters, got a state of Adam's that leaves some "
            "to another optimizer."
        )
    return scale


def _states_of_adam(opt_state: PyTree) -> list[Any]:
    """Find tuples with a count and both averages."""
    is_state = lambda part: (
        {"count", "mu"} < set(getattr(part, "_fields", ()))
        and (hasattr(part, "nu") or hasattr(part, "nu_max"))
    )
    return list(filter(is_state, jax.tree.leaves(opt_state, is_leaf=is_state)))


def _scale(state: Any, b1: Number, b2: Number, eps: Number, eps_root: Number) -> PyTree:
    """Return one over what the next step would divide by if the average stood still."""
    count = jnp.asarray(state.count)
    is_known = count > 0
    is_largest = hasattr(state, "nu_max")

    def of_leaf(nu: Any) -> Any:
        if _is_left_out(nu):
            return nu
        nu = at_least_single(jnp.asarray(nu))  # bfloat16 rounds .999 to 1
        ones = [1 - cast(decay, nu.dtype) ** jnp.maximum(count, 1).astype(nu.dtype)
                for decay in (b1, b2)]  # fmt: skip
        root = jnp.sqrt((nu if is_largest else nu / ones[1]) + cast(eps_root, nu.dtype))
        return jnp.where(is_known, 1 / (ones[0] * (root + cast(eps, nu.dtype))), jnp.nan)

    nu = state.nu_max if is_largest else state.nu
    return jax.tree.map(of_leaf, nu, is_leaf=_is_left_out)


def _is_left_out(part: Any) -> bool:
    return isinstance(part, optax.MaskedNode)


def _merged(one: PyTree, other: PyTree) -> PyTree:
    """Put together trees of which each has what the other leaves out."""
    if _is_left_out(one):
        return other
    if _is_left_out(other):
        return one
    parts, structure = jax.tree.flatten(one, is_leaf=lambda part: part is not one)
    others = jax.tree.leaves(other, is_leaf=lambda part: part is not other)
    if jax.tree_util.all_leaves([one]) or len(parts) != len(others):
        raise ValueError(
            "adam_preconditioner needs one state of Adam's for each parameter, got several."
        )
    return structure.unflatten(map(_merged, parts, others))
