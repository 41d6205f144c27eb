"""What a loss looks like around a point: surfaces with known answers, directions, paths.

* `surfaces`: functions of one or two variables whose minima are known.
* `descend`: one optimizer from one start, as a scan: `vmap` it over starts and hyper-parameters.
* `random_directions`, `filter_normalize`: directions as long as the parameters in every filter.
* `slice_1d`, `slice_2d`: a loss along a line and on a plane, as a `Slice`.
* `reestimate_statistics`: the running averages that belong to other weights.
* `record_trajectory`: the path of a training run, as a probe of `fit`.
* `pca_plane`: the plane nearest to the paths of optimizers, and how far they lie off it.
* `plane_through`: the plane of three models.
* `linear_path`, `bezier_path`, `fit_bezier`: paths between two models; the last one is trained.
* `path_loss`: the loss along a path, and how high the barrier is.
* `project`: where on a plane a point lies, and how far from it.
"""

from jaxopt_tut.landscape import surfaces
from jaxopt_tut.landscape.curves import FittedPath, fit_bezier
from jaxopt_tut.landscape.directions import filter_normalize, random_directions
from jaxopt_tut.landscape.paths import Path, PathLoss, bezier_path, linear_path, path_loss
from jaxopt_tut.landscape.planes import PcaPlane, PlanePath, pca_plane, plane_through, project
from jaxopt_tut.landscape.recording import record_trajectory
from jaxopt_tut.landscape.slices import Slice, slice_1d, slice_2d
from jaxopt_tut.landscape.statistics import reestimate_statistics
from jaxopt_tut.landscape.surfaces import Surface
from jaxopt_tut.landscape.trajectories import Trajectory, descend

__all__ = [
    "FittedPath",
    "Path",
    "PathLoss",
    "PcaPlane",
    "PlanePath",
    "Slice",
    "Surface",
    "Trajectory",
    "bezier_path",
    "descend",
    "filter_normalize",
    "fit_bezier",
    "linear_path",
    "path_loss",
    "pca_plane",
    "plane_through",
    "project",
    "random_directions",
    "record_trajectory",
    "reestimate_statistics",
    "slice_1d",
    "slice_2d",
    "surfaces",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
