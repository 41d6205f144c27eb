"""Where the weights start: from constants to the edge of chaos.

Every initializer is `init(key, shape, dtype=float32) -> Array`, as in `jax.nn.initializers`, and
drops into flax as `kernel_init`. Kernels are (in, out), those of convolutions HWIO.

* Of a fixed width: `constant`, `normal`, `uniform`.
* That follow the shape: `variance_scaling` and its recipes `equal_variance`, `xavier_normal`,
  `xavier_uniform`, `kaiming_normal`, `kaiming_uniform`.
* That keep every length: `orthogonal`, `delta_orthogonal`.
* The theory behind them: `gain` of any activation, `variance_map` and `correlation_map` of one
  layer, `mean_field` of a deep network, and its edge of chaos, `critical`.
* For a model that exists already: `reinitialize`.
"""

from jaxopt_tut.initializers.distributions import constant as constant
from jaxopt_tut.initializers.distributions import normal as normal
from jaxopt_tut.initializers.distributions import uniform as uniform
from jaxopt_tut.initializers.gains import gain as gain
from jaxopt_tut.initializers.isometry import delta_orthogonal as delta_orthogonal
from jaxopt_tut.initializers.isometry import orthogonal as orthogonal
from jaxopt_tut.initializers.phases import Critical as Critical
from jaxopt_tut.initializers.phases import MeanField as MeanField
from jaxopt_tut.initializers.phases import critical as critical
from jaxopt_tut.initializers.phases import mean_field as mean_field
from jaxopt_tut.initializers.propagation import correlation_map as correlation_map
from jaxopt_tut.initializers.propagation import variance_map as variance_map
from jaxopt_tut.initializers.reinitialization import reinitialize as reinitialize
from jaxopt_tut.initializers.scaling import equal_variance as equal_variance
from jaxopt_tut.initializers.scaling import kaiming_normal as kaiming_normal
from jaxopt_tut.initializers.scaling import kaiming_uniform as kaiming_uniform
from jaxopt_tut.initializers.scaling import variance_scaling as variance_scaling
from jaxopt_tut.initializers.scaling import xavier_normal as xavier_normal
from jaxopt_tut.initializers.scaling import xavier_uniform as xavier_uniform

__all__ = [
    "Critical",
    "MeanField",
    "constant",
    "correlation_map",
    "critical",
    "delta_orthogonal",
    "equal_variance",
    "gain",
    "kaiming_normal",
    "kaiming_uniform",
    "mean_field",
    "normal",
    "orthogonal",
    "reinitialize",
    "uniform",
    "variance_map",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
