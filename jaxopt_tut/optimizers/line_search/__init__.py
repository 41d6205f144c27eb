"""How far to go: step sizes as transformations that scale a descent direction.

They follow a direction in `optax.chain` and need the extra argument `value_fn=` (with `value=` and
`grad=` if known) of `update`; `optimizers.minimize` supplies them. Their state holds the value and
the gradient at the new point, and a flag `failed`.

* `wolfe`: enough decrease and a flatter slope; for quasi-Newton methods.
"""

from jaxopt_tut.optimizers.line_search.search import LineSearchState
from jaxopt_tut.optimizers.line_search.wolfe import wolfe

__all__ = ["LineSearchState", "wolfe"]
