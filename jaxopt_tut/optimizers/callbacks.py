"""A look at a search every few steps, between compiled loops: nothing calls back out of XLA."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import TypeAliasType

from jaxopt_tut import counts, programs
from jaxopt_tut.blocks import shown
from jaxopt_tut.optimizers import solution as ended
from jaxopt_tut.optimizers.descent import Given, Problem, Search, advance, begin, finish
from jaxopt_tut.optimizers.scipy_words import no_attribute
from jaxopt_tut.optimizers.solution import Solution
from jaxopt_tut.programs import is_tracing
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.types import Limit, Params


@shown
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Progress:
    """Where a search is, as `minimize` shows it to a `callback`.

    Attributes:
      step: How many steps are made.
      params: The parameters.
      value: The value there.
      grad_norm: The largest absolute component of the (projected) gradient there.
    """

    step: int
    params: Params
    value: float
    grad_norm: float

    if not TYPE_CHECKING:  # which shall see what there is

        def __getattr__(self, name: str) -> NoReturn:
            """Refuse what there is not, and answer SciPy's names by those that there are."""
            raise no_attribute("Progress", name)


Callback = TypeAliasType("Callback", Callable[[Progress], Any])
"""`callback(progress)` returns True to stop, `None` or False to go on."""


def require_callback(callback: Any, every: Limit) -> None:
    """Refuse what cannot be called, and what is no number of steps."""
    if callback is not None and not callable(callback):
        raise TypeError(f"minimize needs a function callback(progress), got callback={callback!r}.")
    number = counts.whole_number(every)
    if number is None or number < 1:
        raise ValueError(
            f"minimize needs an integer callback_every >= 1, got callback_every={every}."
        )


def run_watched(
    problem: Problem, x0: Params, given: Given, callback: Callback, every: Limit
) -> Solution:
    """Search with a call every few steps, and after the last one."""
    if is_tracing():
        raise _no_tracer()
    search, was_outside = programs.run(begin, problem, x0, given)
    if any(map(is_traced, jax.tree.leaves(search))):
        raise _no_tracer()
    while search.status == ended.RUNNING:
        until = np.int32(counts.as_limit(int(search.steps) + int(every)))
        search = programs.run(advance, problem, search, given, until)
        if _asks_to_stop(callback, search) and search.status == ended.RUNNING:
            search = search._replace(status=jnp.full_like(search.status, ended.ASKED))
    return programs.run(finish, problem, search, was_outside, given)


def _asks_to_stop(callback: Callback, search: Search) -> bool:
    point = search.point
    progress = Progress(int(search.steps), point.params, float(point.value), float(point.grad_norm))
    try:
        answer = callback(progress)
    except StopIteration:  # as SciPy's callbacks stop
        return True
    except BaseException as error:
        error.add_note(
            f"Raised by the callback of minimize after step {progress.step}; it is called with a "
            "Progress(step, params, value, grad_norm)."
        )
        raise
    is_array = isinstance(answer, jax.Array | np.ndarray)
    if is_array and answer.ndim == 0 and answer.dtype == bool:
        return bool(answer)
    if not (answer is None or isinstance(answer, bool | np.bool_)):
        raise TypeError(
            "minimize needs callback to return True to stop, or False or None to go on, got "
            f"{answer!r:.60}."
        )
    return bool(answer)


def _no_tracer() -> ValueError:
    return ValueError(
        "minimize calls a callback between programs, so that nothing may be traced, as under "
        "jax.jit, jax.vmap and jax.jvp; write history=True there, or jax.debug.callback(...) in "
        "fun."
    )
