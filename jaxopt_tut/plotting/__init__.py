"""Pictures of results: the only room that imports matplotlib (extra `plot`).

Every `plot_*` takes arrays or results and `ax=None`, draws on the axes it is given or on a new
figure, and returns the axes (`ax.figure` is their figure). Figures are built without pyplot, so
nothing is leaked or left open, and no display is needed; a notebook shows the whole figure where a
cell ends in it or in one of its axes. Repeated runs lie along the first
axis of an array: lines show their mean or median, bands their spread.

* `plot_distributions`: histograms, one panel a layer.
* `plot_diagnosis`: all of that for a diagnosis, and a profile over its layers.
* `plot_audit`: modes of differentiation, bias against memory.
* `plot_profile`: one number a layer, on a logarithmic axis.
* `plot_predicted`: measured against predicted.
* `plot_training_curves`: training and validation, an epoch a point.
* `plot_sensitivity`: a score against the learning rate.
* `plot_sweep`: the scores over two hyper-parameters.
* `plot_surface`, `plot_surface_3d`: a loss of two parameters with the paths taken on it.
* `plot_plane`, `animate_plane`: paths on a plane and how far off they lie, still and as a GIF.
* `plot_path`: the loss between models, and its barrier.
* `plot_slice`: a loss along a line with a metric beside it, or on a plane.
* `plot_performance_profiles`, `plot_scores`, `plot_comparison`, `plot_rate_sensitivity`,
  `plot_tuning_cost`: what the methods of a race's table return.
* `plot_rate_range`: the loss while the learning rate rises, and the rate to begin with.
* `plot_density`: the distribution of eigenvalues; `plot_eigenvalues`: the first ones by layer.
* `plot_sharpness`: sharpness over the steps of training, and the stability limit.
* `plot_lines`: functions of one variable.
* `plot_images`: small grey images in a grid.
* `new_figure`, `save_figure`: a figure in this style; PNG and SVG files for white and dark
  pages, the same bytes each time.
"""

try:
    import matplotlib as _matplotlib
except ImportError as error:
    raise ImportError(
        "jaxopt_tut.plotting needs matplotlib: pip install 'jaxopt_tut[plot]'."
    ) from error
del _matplotlib

# ruff: noqa: E402 -- the rest cannot be imported before matplotlib is known to be there
from jaxopt_tut.plotting.audit import plot_audit
from jaxopt_tut.plotting.curvature import plot_density, plot_eigenvalues
from jaxopt_tut.plotting.curves import plot_lines, plot_sensitivity, plot_training_curves
from jaxopt_tut.plotting.diagnosis import plot_diagnosis
from jaxopt_tut.plotting.distributions import plot_distributions
from jaxopt_tut.plotting.images import plot_images
from jaxopt_tut.plotting.layers import plot_predicted, plot_profile
from jaxopt_tut.plotting.planes import animate_plane, plot_path, plot_plane
from jaxopt_tut.plotting.races import (
    plot_comparison,
    plot_performance_profiles,
    plot_rate_sensitivity,
    plot_scores,
    plot_tuning_cost,
)
from jaxopt_tut.plotting.rates import plot_rate_range
from jaxopt_tut.plotting.saving import save_figure
from jaxopt_tut.plotting.sharpness import plot_sharpness
from jaxopt_tut.plotting.slices import plot_slice
from jaxopt_tut.plotting.style import new_figure
from jaxopt_tut.plotting.surfaces import plot_surface, plot_surface_3d
from jaxopt_tut.plotting.sweeps import plot_sweep

__all__ = [
    "animate_plane",
    "new_figure",
    "plot_audit",
    "plot_comparison",
    "plot_density",
    "plot_diagnosis",
    "plot_distributions",
    "plot_eigenvalues",
    "plot_images",
    "plot_lines",
    "plot_path",
    "plot_performance_profiles",
    "plot_plane",
    "plot_predicted",
    "plot_profile",
    "plot_rate_range",
    "plot_rate_sensitivity",
    "plot_scores",
    "plot_sensitivity",
    "plot_sharpness",
    "plot_slice",
    "plot_surface",
    "plot_surface_3d",
    "plot_sweep",
    "plot_training_curves",
    "plot_tuning_cost",
    "save_figure",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
