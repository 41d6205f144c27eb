"""Solves that optimizers and implicit derivatives need, where no library has them.

* `polar_factor`: the orthogonal factor of a matrix.
* `truncated_cg`: conjugate gradients that stop at negative curvature or at a radius.
* `modified_cholesky_solve`, `saddle_free_solve`: Newton systems that need not be definite.
"""

from jaxopt_tut.linalg.newton_systems import modified_cholesky_solve, saddle_free_solve
from jaxopt_tut.linalg.polar import polar_factor
from jaxopt_tut.linalg.truncated_cg import TruncatedCG, truncated_cg

__all__ = [
    "TruncatedCG",
    "modified_cholesky_solve",
    "polar_factor",
    "saddle_free_solve",
    "truncated_cg",
]
