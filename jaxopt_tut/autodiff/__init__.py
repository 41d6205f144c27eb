"""Automatic differentiation that shows its work.

* `trace`: the computation `Graph` of any JAX function; evaluation, backpropagation and tangents
  on it, with a value for every `Node`.
* `vjp`, `grad`, `value_and_grad`, `jvp`, `hvp`: JAX's transformations on our own engine.
* `defvjp`: the rule of a primitive; `custom_node`, `elu`: a function with a rule of its own.
* `check_gradients`, `find_wrong_rule`: is a derivative right, and if not, which rule is wrong.
* `zero_safe`: the same function, with derivatives in which zero times infinity is zero;
  `zero_products`: where that happens.
* `draw`, `to_dot`: pictures of a graph; a `Drawing` is SVG that notebooks show.
"""

from jaxopt_tut.autodiff import rules as rules
from jaxopt_tut.autodiff.checks import GradientCheck as GradientCheck
from jaxopt_tut.autodiff.checks import check_gradients as check_gradients
from jaxopt_tut.autodiff.custom import custom_node as custom_node
from jaxopt_tut.autodiff.custom import elu as elu
from jaxopt_tut.autodiff.drawing import Drawing as Drawing
from jaxopt_tut.autodiff.drawing import draw as draw
from jaxopt_tut.autodiff.drawing import to_dot as to_dot
from jaxopt_tut.autodiff.graph import Graph as Graph
from jaxopt_tut.autodiff.graph import Node as Node
from jaxopt_tut.autodiff.graph import trace as trace
from jaxopt_tut.autodiff.localization import find_wrong_rule as find_wrong_rule
from jaxopt_tut.autodiff.registry import defvjp as defvjp
from jaxopt_tut.autodiff.transforms import grad as grad
from jaxopt_tut.autodiff.transforms import hvp as hvp
from jaxopt_tut.autodiff.transforms import jvp as jvp
from jaxopt_tut.autodiff.transforms import value_and_grad as value_and_grad
from jaxopt_tut.autodiff.transforms import vjp as vjp
from jaxopt_tut.autodiff.zero_safe import zero_safe as zero_safe
from jaxopt_tut.autodiff.zero_sites import ZeroSite as ZeroSite
from jaxopt_tut.autodiff.zero_sites import zero_products as zero_products

__all__ = [
    "Drawing",
    "GradientCheck",
    "Graph",
    "Node",
    "ZeroSite",
    "check_gradients",
    "custom_node",
    "defvjp",
    "draw",
    "elu",
    "find_wrong_rule",
    "grad",
    "hvp",
    "jvp",
    "to_dot",
    "trace",
    "value_and_grad",
    "vjp",
    "zero_products",
    "zero_safe",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
