"""The largest eigenvalue of the Hessian, plain or of another geometry."""

from dataclasses import dataclass

import jax.numpy as jnp

from jaxopt_tut.counts import whole_number
from jaxopt_tut.curvature.eigenpairs import top_eigenpairs
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.flatness.around import LossAround
from jaxopt_tut.curvature.operator import Preconditioned
from jaxopt_tut.hyperparameters import require_nonnegative
from jaxopt_tut.types import PRNGKey, PyTree


@dataclass(frozen=True)
class LargestEigenvalue:
    r"""The largest eigenvalue of the Hessian: how far the steepest valley is from flat.

    $$\lambda_1\big(D^{1/2} H D^{1/2}\big), \qquad D = \begin{cases}
    1 & \text{plain} \\
    \operatorname{diag}(w^2) & \text{adaptive} \\
    \operatorname{diag}(\text{preconditioner}) & \text{what an optimizer sees} \end{cases}$$

    This is what `stability_limit` bounds: with `adam_preconditioner(opt_state)` for Adam.

    Cost: Hessian products, each of about two gradients over all data: some ten to twenty for an
    eigenvalue that stands apart. Second derivatives of the result are not those of the eigenvalue.

    Attributes:
      preconditioner: Positive numbers that a step multiplies the gradient by, as
        `Operator.preconditioned` takes them: a tree like the parameters, or one for all.
      adaptive: Whether the units are the weights, which makes the eigenvalue invariant where ReLU
        layers are rescaled.
      tol: As `top_eigenpairs` takes it.
      max_products: The most products; where they do not suffice, the length of the residual stands
        as the standard error, and no eigenvalue is farther away than that.

    Example:
      >>> import jax
      >>> from jaxopt_tut.curvature import sharpness
      >>> loss_fn = lambda w, batch: 0.5 * jnp.sum(jnp.array([1.0, 9.0]) * w**2)
      >>> w, key = jnp.array([8.0, 2.0]), jax.random.key(0)
      >>> for kind in (LargestEigenvalue(), LargestEigenvalue(adaptive=True)):
      ...     print(f"{sharpness(loss_fn, w, kind=kind, key=key).mean:.2f}")
      9.00
      64.00

    References:
      Dinh et al. (2017), Sharp minima can generalize for deep nets, section 4.
      https://arxiv.org/abs/1703.04933
    """

    preconditioner: PyTree = None
    adaptive: bool = False
    tol: float | None = None
    max_products: int | None = None

    def __post_init__(self) -> None:
        """Refuse two geometries at once, and no products."""
        if self.adaptive and self.preconditioner is not None:
            raise ValueError(
                "LargestEigenvalue needs a preconditioner or adaptive=True, got both of them."
            )
        if self.tol is not None:
            require_nonnegative("LargestEigenvalue", tol=self.tol)
        if self.max_products is None:
            return
        count = whole_number(self.max_products)
        got = f"got max_products={self.max_products!r}."
        if count is None:
            raise TypeError(f"LargestEigenvalue needs a whole max_products, {got}")
        if count < 1:
            raise ValueError(f"LargestEigenvalue needs max_products >= 1, {got}")

    @property
    def needs_key(self) -> bool:
        """Whether it draws: the vector to begin with."""
        return True

    def measure(self, around: LossAround, key: PRNGKey | None) -> Estimate:
        """Return the eigenvalue, and what is left of its residual."""
        assert key is not None
        op = around.hessian
        if self.adaptive:  # weights may be 0, which `preconditioned` refuses
            op = Preconditioned(around.sizes(), op)
        elif self.preconditioner is not None:
            op = op.preconditioned(self.preconditioner)
        pairs = top_eigenpairs(op, 1, key, tol=self.tol, max_products=self.max_products)
        value, residual = pairs.values[0], pairs.residuals[0]
        left = jnp.where(pairs.converged[0], 0, residual)
        is_number = jnp.isfinite(residual)
        flagged = lambda number: jnp.where(is_number, number, jnp.nan)
        return Estimate(flagged(value), flagged(left))
