"""Known bi-level problems, each a few lines on top of `hypergrad` or `argmin`.

* `maml`, `imaml`: a start, or a centre, from which a family of tasks is learned.
* `hyperclean`: a weight for each training example. `distill`: a few synthetic examples.
* `learn_schedule`: a learning rate for each step. `learn_initializer`: a gain for each layer.
* `tune_regularizer`: the strength of a penalty.

Each returns `Learned(value, losses)`; `learn` is their outer loop.
"""

from jaxopt_tut.bilevel.recipes.distill import distill
from jaxopt_tut.bilevel.recipes.hyperclean import hyperclean
from jaxopt_tut.bilevel.recipes.learn_initializer import learn_initializer
from jaxopt_tut.bilevel.recipes.learn_schedule import learn_schedule
from jaxopt_tut.bilevel.recipes.learning import Learned, learn
from jaxopt_tut.bilevel.recipes.maml import imaml, maml
from jaxopt_tut.bilevel.recipes.tune_regularizer import tune_regularizer

__all__ = [
    "Learned",
    "distill",
    "hyperclean",
    "imaml",
    "learn",
    "learn_initializer",
    "learn_schedule",
    "maml",
    "tune_regularizer",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
