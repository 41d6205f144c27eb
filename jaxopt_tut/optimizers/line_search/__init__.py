"""How far to go: step sizes as transformations that scale a descent direction.

They follow a direction in `optax.chain` and need the extra argument `value_fn=` (with `value=` and
`grad=` if known) of `update`; `optimizers.minimize` supplies them. Their state holds the value and
the gradient at the new point, and a flag `failed`.

* `armijo`: enough decrease, by halving; for directions with a natural length.
* `wolfe`: enough decrease and a flatter slope; for quasi-Newton methods.
* `exact`: no slope left; a yardstick.
"""

from jaxopt_tut.optimizers.line_search.armijo import armijo
from jaxopt_tut.optimizers.line_search.exact import exact
from jaxopt_tut.optimizers.line_search.search import LineSearchState
from jaxopt_tut.optimizers.line_search.wolfe import wolfe

__all__ = ["LineSearchState", "armijo", "exact", "wolfe"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
