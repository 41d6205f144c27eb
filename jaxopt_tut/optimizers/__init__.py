"""How the weights move: update rules, each an optax transformation.

First-order optimizers take the learning rate first (a number, a schedule or a tracer) and
everything else by keyword; each is `optax.chain` of a `scale_by_*` part and
`scale_by_learning_rate`:

* `sgd`: the gradient itself.
* `steepest_descent`: the steepest direction under one of `norms`, which may differ by leaf.
* `momentum`: an exponential moving average of the gradients, plain or Nesterov.
* `adam`: two moving averages, the mean over the root of the mean square; `adamw`: with decoupled
  weight decay.

Solvers find their own direction and step size, and `minimize` runs any optimizer to convergence in
one compiled loop:

* `bfgs`, `lbfgs`: quasi-Newton methods, dense and with limited memory.
* `newton`, `newton_cg`, `trust_region`: the Hessian itself, dense or by its products.
* `nonlinear_cg`: conjugate gradients, with the least memory.
* `gauss_newton`, `levenberg_marquardt`: for sums of squares; they take `residual_fn=`.
* `least_squares`: fits from the residuals alone, with robust losses; `half_squares`: their
  objective; `covariance`: standard errors; `curve_fit`: all in one.
* `line_search`: `armijo`, `wolfe`, `exact`, for any direction.
* `differentiable`: any of optax's, with derivatives that are finite at zero gradients too.
* `step`: one step of any of them, with all that it asks for, for loops of one's own.
* `projections` and `project`: sets, and descent that stays in them; `stationarity`: how far from
  done.

The parts compose with everything in optax (`chain`, `inject_hyperparams`, `masked`,
`MultiSteps`), and differ from optax's in one thing: their derivatives are finite and right, with
respect to every hyper-parameter and at zero gradients too. What optax already does well is not
wrapped here: take AdaGrad, RMSprop, Nesterov Adam (`optax.nadam`), Lion, schedules and
clipping from optax.
"""

from jaxopt_tut.optimizers import line_search, norms, projections
from jaxopt_tut.optimizers.adam import ScaleByAdamState, adam, scale_by_adam
from jaxopt_tut.optimizers.adamw import adamw
from jaxopt_tut.optimizers.bfgs import ScaleByBFGSState, bfgs, scale_by_bfgs
from jaxopt_tut.optimizers.callbacks import Progress
from jaxopt_tut.optimizers.covariance import Covariance, covariance
from jaxopt_tut.optimizers.curve_fit import Fit, curve_fit
from jaxopt_tut.optimizers.differentiable import differentiable
from jaxopt_tut.optimizers.gauss_newton import gauss_newton, scale_by_gauss_newton
from jaxopt_tut.optimizers.lbfgs import ScaleByLBFGSState, lbfgs, scale_by_lbfgs
from jaxopt_tut.optimizers.lbfgsb import ScaleByLBFGSBState, lbfgsb, scale_by_lbfgsb
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.least_squares import half_squares, least_squares
from jaxopt_tut.optimizers.levenberg_marquardt import (
    LevenbergMarquardtState,
    levenberg_marquardt,
)
from jaxopt_tut.optimizers.minimize import minimize
from jaxopt_tut.optimizers.momentum import ScaleByMomentumState, momentum, scale_by_momentum
from jaxopt_tut.optimizers.newton import newton, scale_by_newton
from jaxopt_tut.optimizers.newton_cg import ScaleByNewtonCGState, newton_cg, scale_by_newton_cg
from jaxopt_tut.optimizers.nonlinear_cg import (
    ScaleByNonlinearCGState,
    nonlinear_cg,
    scale_by_nonlinear_cg,
)
from jaxopt_tut.optimizers.project import project
from jaxopt_tut.optimizers.sgd import sgd
from jaxopt_tut.optimizers.solution import History, Solution, Status
from jaxopt_tut.optimizers.stationarity import stationarity
from jaxopt_tut.optimizers.steepest_descent import scale_by_steepest_descent, steepest_descent
from jaxopt_tut.optimizers.step import Step, step
from jaxopt_tut.optimizers.trust_region import TrustRegionState, trust_region

__all__ = [
    "Covariance",
    "Fit",
    "History",
    "LevenbergMarquardtState",
    "Progress",
    "ScaleByAdamState",
    "ScaleByBFGSState",
    "ScaleByLBFGSBState",
    "ScaleByLBFGSState",
    "ScaleByMomentumState",
    "ScaleByNewtonCGState",
    "ScaleByNonlinearCGState",
    "Solution",
    "Status",
    "Step",
    "TrustRegionState",
    "adam",
    "adamw",
    "bfgs",
    "covariance",
    "curve_fit",
    "differentiable",
    "gauss_newton",
    "half_squares",
    "lbfgs",
    "lbfgsb",
    "least_squares",
    "levenberg_marquardt",
    "line_search",
    "minimize",
    "momentum",
    "newton",
    "newton_cg",
    "nonlinear_cg",
    "norms",
    "project",
    "projections",
    "scale_by_adam",
    "scale_by_bfgs",
    "scale_by_gauss_newton",
    "scale_by_lbfgs",
    "scale_by_lbfgsb",
    "scale_by_learning_rate",
    "scale_by_momentum",
    "scale_by_newton",
    "scale_by_newton_cg",
    "scale_by_nonlinear_cg",
    "scale_by_steepest_descent",
    "sgd",
    "stationarity",
    "steepest_descent",
    "step",
    "trust_region",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
