"""How the weights move: update rules, each an optax transformation.

Recipes take the learning rate first (a number, a schedule or a tracer) and everything else by
keyword; each is `optax.chain` of a `scale_by_*` part and `scale_by_learning_rate`:

* `sgd`: the gradient itself.
* `momentum`: an exponential moving average of the gradients, plain or Nesterov.
* `adam`: two moving averages, the mean over the root of the mean square.

Solvers find their own direction and step size, and `minimize` runs any optimizer to convergence in
one compiled loop:

* `bfgs`, `lbfgs`: quasi-Newton methods, dense and with limited memory.
* `line_search`: `armijo`, `wolfe`, `exact`, for any direction.

The parts compose with everything in optax (`chain`, `inject_hyperparams`, `masked`,
`MultiSteps`), and differ from optax's in one thing: their derivatives are finite and right, with
respect to every hyper-parameter and at zero gradients too. What optax already does well is not
wrapped here: take AdamW, AdaGrad, RMSprop, Nesterov Adam (`optax.nadam`), Lion, schedules and
clipping from optax.
"""

from jaxopt_tut.optimizers import line_search
from jaxopt_tut.optimizers.adam import ScaleByAdamState, adam, scale_by_adam
from jaxopt_tut.optimizers.bfgs import ScaleByBFGSState, bfgs, scale_by_bfgs
from jaxopt_tut.optimizers.lbfgs import ScaleByLBFGSState, lbfgs, scale_by_lbfgs
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.minimize import minimize
from jaxopt_tut.optimizers.momentum import ScaleByMomentumState, momentum, scale_by_momentum
from jaxopt_tut.optimizers.sgd import sgd
from jaxopt_tut.optimizers.solution import History, Solution, Status

__all__ = [
    "History",
    "ScaleByAdamState",
    "ScaleByBFGSState",
    "ScaleByLBFGSState",
    "ScaleByMomentumState",
    "Solution",
    "Status",
    "adam",
    "bfgs",
    "lbfgs",
    "line_search",
    "minimize",
    "momentum",
    "scale_by_adam",
    "scale_by_bfgs",
    "scale_by_lbfgs",
    "scale_by_learning_rate",
    "scale_by_momentum",
    "sgd",
]
