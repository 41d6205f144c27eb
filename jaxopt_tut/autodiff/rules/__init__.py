"""The rules, in groups; importing this package fills the table in `registry`.

* `elementwise`: functions that act number by number, comparison and selection.
* `numbers`: casts and complex numbers.
* `reductions`: sums, products, extrema over axes.
* `shape`: reshapes, transposes, slices, concatenation, padding.
* `linear_algebra`: products, triangular solves, factorizations, Fourier transforms.
* `indexing`: gather, scatter, sorting.
* `convolution`: convolutions and pooling windows.
* `cumulative`: running sums, products and extrema.
* `scan`, `cond`, `while_loop`: loops and branches.
* `calls`: custom rules, rematerialization, and JAX's own rule for the rest.
"""

from jaxopt_tut.autodiff.rules import calls as calls
from jaxopt_tut.autodiff.rules import cond as cond
from jaxopt_tut.autodiff.rules import convolution as convolution
from jaxopt_tut.autodiff.rules import cumulative as cumulative
from jaxopt_tut.autodiff.rules import elementwise as elementwise
from jaxopt_tut.autodiff.rules import indexing as indexing
from jaxopt_tut.autodiff.rules import linear_algebra as linear_algebra
from jaxopt_tut.autodiff.rules import numbers as numbers
from jaxopt_tut.autodiff.rules import reductions as reductions
from jaxopt_tut.autodiff.rules import scan as scan
from jaxopt_tut.autodiff.rules import shape as shape
from jaxopt_tut.autodiff.rules import while_loop as while_loop

__all__ = [
    "calls",
    "cond",
    "convolution",
    "cumulative",
    "elementwise",
    "indexing",
    "linear_algebra",
    "numbers",
    "reductions",
    "scan",
    "shape",
    "while_loop",
]
