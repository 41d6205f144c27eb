"""Fixed points: by the map again and again, or by the best combination of its last results."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxopt_tut import counts
from jaxopt_tut.bilevel.equations.equation import FixedPointSolver, on_vectors
from jaxopt_tut.bilevel.solvers import Objective, size_of
from jaxopt_tut.hyperparameters import require_decay, require_nonnegative, require_positive
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import matmul, norm, ravel, safe_root


@dataclass(frozen=True)
class Picard(FixedPointSolver):
    r"""Apply the map again and again.

    $$y_{t+1} = (1 - \delta)\, T(y_t, z) + \delta\, y_t$$

    Converges from anywhere where $T$ contracts; its error falls by the rate of contraction a step.
    Damping helps where $T$ oscillates.

    Attributes:
      damping: $\delta$ in [0, 1).

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import Picard, fixed_point
      >>> T = lambda y, z: z * jnp.cos(y)
      >>> print(fixed_point(T, 1.0, 1.0, solver=Picard(), steps=50).y.round(4))
      0.7391
    """

    damping: ArrayLike = 0.0

    def __post_init__(self) -> None:
        """Refuse what does not move, or away from where the map leads."""
        require_decay("Picard", damping=self.damping)

    def init(self, y: Params, hp: PyTree) -> tuple[()]:
        """Return the empty state."""
        del y, hp
        return ()

    def step(
        self, objective: Objective, y: Params, state: tuple[()], hp: PyTree
    ) -> tuple[Params, tuple[()], Float[Array, ""]]:
        """Apply the map."""
        residual = self.residual(objective, y, hp)
        move = lambda a, r: a - (1 - jnp.asarray(self.damping, a.dtype)) * r
        return jax.tree.map(move, y, residual), state, size_of(residual)


class AndersonState(NamedTuple):
    """The last points and their residuals, in a ring."""

    points: Float[Array, "memory dim"]
    residuals: Float[Array, "memory dim"]
    count: Int[Array, ""]  # how many there have been


@dataclass(frozen=True)
class Anderson(FixedPointSolver):
    r"""Combine the last points so that, were the map affine, the residual would be least.

    $$y_{t+1} = \sum_i \alpha_i (y_i + \beta\, r_i), \qquad r_i = T(y_i) - y_i, \qquad
    \alpha = \arg\min_{\sum \alpha_i = 1} \big\lVert {\textstyle\sum} \alpha_i r_i \big\rVert^2 +
    \lambda {\textstyle\sum} \alpha_i^2 \lVert r_i \rVert^2$$

    On an affine map it is GMRES; on others mostly much faster than `Picard`, though it is no
    descent. Costs one evaluation of the map, memory for $2m$ points, and a system of $m$ unknowns.
    A point whose residual is rounding stays.

    Attributes:
      memory: $m$, points kept.
      mixing: $\beta$ in (0, 1].
      ridge: $\lambda$, without which points that hardly differ make $\alpha$ arbitrary.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import Anderson, fixed_point
      >>> slow = lambda y, z: y + 0.05 * (z - jnp.array([1.0, 9.0]) * y)
      >>> result = fixed_point(slow, jnp.zeros(2), 9.0, solver=Anderson(3), steps=9)
      >>> print(result.y.round(3))
      [9. 1.]

    References:
      Walker and Ni (2011), Anderson acceleration for fixed-point iterations, algorithm AA and
      theorem 2.2. https://doi.org/10.1137/10078356X
    """

    memory: int | np.integer = 5
    mixing: ArrayLike = 1.0
    ridge: float | None = None
    wanders: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse a memory of nothing, and what does not move."""
        require_positive("Anderson", mixing=self.mixing)
        if self.ridge is not None:
            require_nonnegative("Anderson", ridge=self.ridge)
        if (size := counts.whole_number(self.memory)) is None or size < 1:
            raise ValueError(f"Anderson needs a whole number memory >= 1, got {self.memory!r}.")

    def init(self, y: Params, hp: PyTree) -> AndersonState:
        """Return an empty ring."""
        del hp
        vector = ravel(y)[0]
        ring = jnp.zeros((int(self.memory), vector.size), vector.dtype)
        return AndersonState(ring, jnp.zeros_like(ring), jnp.zeros([], jnp.int32))

    def step(
        self, objective: Objective, y: Params, state: AndersonState, hp: PyTree
    ) -> tuple[Params, AndersonState, Float[Array, ""]]:
        """Evaluate the map once, and combine."""
        del hp
        flat, unravel, mapped = on_vectors(objective, y)
        r = mapped(flat) - flat
        size = len(state.points)
        place = state.count % size
        points, residuals = state.points.at[place].set(flat), state.residuals.at[place].set(r)
        is_used = jnp.arange(size, dtype=jnp.int32) <= state.count
        # unit rows: the condition of the system is that of the angles, not of the progress made
        lengths = safe_root(jnp.sum(residuals**2, axis=1))
        units = jnp.where(lengths > 0, lengths, 1)
        rows = residuals / units[:, None]
        identity = jnp.eye(size, dtype=flat.dtype)
        ridge = 10 * float(jnp.finfo(flat.dtype).eps) if self.ridge is None else self.ridge
        gram = jnp.where(is_used[:, None] & is_used, matmul(rows, rows.T), 0) + ridge * identity
        shares = jnp.where(is_used, jnp.min(units, initial=jnp.inf, where=is_used) / units, 0)
        weights = jnp.linalg.solve(gram, shares) * shares
        weights = weights / jnp.sum(weights)
        mixing = jnp.asarray(self.mixing, flat.dtype)
        after = matmul(weights, points + mixing * residuals)
        # a residual that is rounding says nothing of the others: the point stays, and moves with
        # the map where that is differentiated
        stays = flat + r - jax.lax.stop_gradient(r)
        is_rounding = lengths[place] <= 10 * float(jnp.finfo(flat.dtype).eps) * norm(flat)
        after = jnp.where(is_rounding, stays, after)
        state = AndersonState(points, residuals, state.count + 1)
        return unravel(after), state, size_of(unravel(r))
