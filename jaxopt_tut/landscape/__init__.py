"""Loss surfaces with known answers, and the paths that optimizers take on them.

* `surfaces`: functions of one or two variables whose minima are known.
* `descend`: one optimizer from one start, as a scan: `vmap` it over starts and hyper-parameters.
"""

from jaxopt_tut.landscape import surfaces
from jaxopt_tut.landscape.surfaces import Surface
from jaxopt_tut.landscape.trajectories import Trajectory, descend

__all__ = ["Surface", "Trajectory", "descend", "surfaces"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
