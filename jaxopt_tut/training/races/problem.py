"""What optimizers race on."""

import dataclasses
from collections.abc import Callable
from numbers import Real
from typing import Any, SupportsFloat, cast

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.datasets.inner import normalized
from jaxopt_tut.losses import WithoutAux, require_loss
from jaxopt_tut.training.data import DeviceData, device_data, num_examples, take
from jaxopt_tut.training.races.calling import faults_of
from jaxopt_tut.training.scalars import as_count, check_call
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Batch, LossFn, Params, PRNGKey, PyTree

__all__ = ["Data", "Problem"]

Data = TypeAliasType("Data", PyTree | Callable[[PRNGKey], Batch])
"""What `fit` takes, or a function that draws a batch."""


@shown
@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    r"""A model, its loss and its data: what optimizers race on.

    $$w_0 = \mathrm{init}(\mathrm{key}), \qquad \min_w\, \mathbb{E}_b\, \mathrm{loss}(w, b)$$

    Nothing else is needed for a problem of your own: two functions and arrays. A copy with another
    target comes from `dataclasses.replace`.

    Attributes:
      name: What it is called in tables.
      init: Draws the initial parameters from a key; it is traced.
      loss: `(params, batch) -> scalar` or `-> (scalar, aux)`.
      data: What `fit` takes, a `Dataset` or a tree of arrays whose first axes are the examples, in
        a new order every epoch, the last partial batch dropped; or a function that draws a batch
        from a key.
      validation: A batch, or a `Dataset` with a test split, on which runs are judged; None judges
        them on all that they train on.
      batch_size: The number of examples in a batch; a function that draws has its own.
      evaluate: What runs are judged by, a function like `loss`, the less the better; None is the
        loss.
      target: The value of it at which the problem counts as solved; None leaves that to the race.

    Example:
      Least squares on six examples, in batches of two:

      >>> x = jnp.arange(6.0)
      >>> squares = lambda slope, batch: jnp.mean((slope * batch[0] - batch[1]) ** 2)
      >>> slope = Problem("slope", lambda key: jax.random.normal(key), squares, (x, 3 * x),
      ...                 batch_size=2, target=1e-3)
      >>> print(slope.loss(jnp.array(2.0), slope.data))
      9.166667
    """

    name: str
    init: Callable[[PRNGKey], Params]
    loss: LossFn
    data: Data
    _: dataclasses.KW_ONLY
    validation: PyTree = None
    batch_size: int = 32
    evaluate: LossFn | None = None
    target: SupportsFloat | None = None


def problem_data(problem: Problem) -> tuple[DeviceData | None, Batch]:
    """Put what is trained on, None if that is drawn, and what judges on the device."""
    caller = f"race (problem {problem.name!r})"
    data = None if callable(problem.data) else device_data(problem.data, caller)
    judging = data if problem.validation is None else problem.validation
    judging = data if judging is data else device_data(judging, caller, "test")
    return data, None if judging is None else normalized(*judging)


def check_problem(problem: Any) -> None:
    """Refuse what cannot be raced on, before anything is compiled."""
    if not isinstance(problem, Problem):
        raise TypeError(f"race needs problems of class Problem, got {type(problem).__name__}.")
    if not isinstance(problem.name, str):
        raise TypeError(f"race needs a str as name of a problem, got {problem.name!r}.")
    asked = f"race needs {{}} in problem {problem.name!r}, got {{}}."
    for field in ("init", "loss", "evaluate"):
        function = getattr(problem, field)
        if not callable(function) and (function is not None or field != "evaluate"):
            raise TypeError(asked.format(f"a function as {field}", type(function).__name__))
    if problem.target is not None:
        kind = None if _is_number(problem.target) else TypeError
        kind = ValueError if kind is None and np.isnan(float(problem.target)) else kind
        if kind is not None:
            raise kind(asked.format("a target that is a number", f"target={problem.target!r}"))
    if callable(problem.data) and problem.validation is None:
        raise ValueError(asked.format("validation, for its data are drawn", "validation=None"))
    data, judging = problem_data(problem)
    if data is not None:
        batch_size, size = as_count("race", "batch_size", problem.batch_size), num_examples(data)
        if not 1 <= batch_size <= size:
            rule = f"1 <= batch_size <= number of examples ({size})"
            raise ValueError(asked.format(rule, f"batch_size={batch_size}"))
    _check_shapes(problem, data, judging)


def _check_shapes(problem: Problem, data: DeviceData | None, judging: Batch) -> None:
    """Trace what the problem is made of, so that its faults come up under its name."""
    caller = f"race (problem {problem.name!r})"
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = _shapes(caller, "init", problem.init, key=key)
    require_inexact(params, caller)
    if data is None:
        batch = _shapes(caller, "data", cast(Callable[..., Any], problem.data), key=key)
    else:
        batch = jax.eval_shape(lambda: take(data, jnp.arange(problem.batch_size)))
    judged_by = "loss" if problem.evaluate is None else "evaluate"
    for name, function, given in (
        ("loss", problem.loss, batch),
        (judged_by, judge(problem), judging),
    ):
        found = _shapes(caller, name, function, only_loss=True, params=params, batch=given)
        require_loss(caller, found)


def _shapes(
    caller: str,
    name: str,
    function: Callable[..., Any],
    *,
    only_loss: bool = False,
    **arguments: Any,
) -> Any:
    """Trace a function of the problem, given by place; arguments are named for messages."""
    check_call(caller, name, function, list(arguments))
    with faults_of(f"{caller} needs {name}({', '.join(arguments)}) to be traced, which"):
        call = WithoutAux(function) if only_loss else function
        return jax.eval_shape(call, *arguments.values())


def _is_number(value: Any) -> bool:
    """Tell a real number, of any library, from texts and truth values."""
    if isinstance(value, Real):
        return not isinstance(value, bool)
    kinds, dtype = (jnp.floating, jnp.integer), getattr(value, "dtype", bool)
    return np.shape(value) == () and any(jnp.issubdtype(dtype, kind) for kind in kinds)


def judge(problem: Problem) -> LossFn:
    """Return what runs are judged by."""
    return problem.loss if problem.evaluate is None else problem.evaluate
