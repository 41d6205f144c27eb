"""Solves that optimizers and implicit derivatives need, where no library has them.

* `polar_factor`, `newton_schulz`: the orthogonal factor of a matrix, exactly or by products alone.
* `truncated_cg`: conjugate gradients that stop at negative curvature or at a radius.
* `ball_minimum`: the exact minimum of a quadratic within a ball.
* `cg`, `normal_cg`, `gmres`: iterative solves, for definite, any and asymmetric systems;
  `neumann`: the truncated series of the inverse, with `largest_eigenvalue` for its step.
* `solve_symmetric`, `solve_square`: dense systems, singular or not.
* `modified_cholesky_solve`, `saddle_free_solve`: Newton systems that need not be definite.
"""

from jaxopt_tut.linalg.ball_quadratic import BallMinimum, ball_minimum
from jaxopt_tut.linalg.cg import cg
from jaxopt_tut.linalg.dense import DenseSolution, solve_square, solve_symmetric
from jaxopt_tut.linalg.gmres import gmres
from jaxopt_tut.linalg.neumann import largest_eigenvalue, neumann
from jaxopt_tut.linalg.newton_systems import modified_cholesky_solve, saddle_free_solve
from jaxopt_tut.linalg.normal_cg import normal_cg
from jaxopt_tut.linalg.polar import newton_schulz, polar_factor
from jaxopt_tut.linalg.solution import LinearSolution
from jaxopt_tut.linalg.truncated_cg import TruncatedCG, truncated_cg

__all__ = [
    "BallMinimum",
    "DenseSolution",
    "LinearSolution",
    "TruncatedCG",
    "ball_minimum",
    "cg",
    "gmres",
    "largest_eigenvalue",
    "modified_cholesky_solve",
    "neumann",
    "newton_schulz",
    "normal_cg",
    "polar_factor",
    "saddle_free_solve",
    "solve_square",
    "solve_symmetric",
    "truncated_cg",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
