"""Functions of parameters as users write them, of a model of any kind, made static and alike."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.loss_forms import BoundLoss, LossForm, read_form, with_batch
from jaxopt_tut.splitting import is_model, split_model
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Batch, LossFn, PRNGKey, PyTree

_NUMBERS = (jax.Array, np.ndarray, np.generic, int, float, complex)


class Given(NamedTuple):
    """What a function is given beside the parameters that vectors are like, and a batch.

    Attributes:
      others: Leaves of the parameters that are held fixed.
      extras: What a model carries, a key and a state; nothing if the function takes none.
    """

    others: tuple[Any, ...] = ()
    extras: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Function:
    """A function of parameters and a batch; equal where it is the same.

    Attributes:
      fn: The function, or a `BoundLoss`.
      caller: Who was given it.
      has_state: Whether the model has arrays that are not trained.
      structure: Of all parameters, where some are held fixed.
      places: Those that are not; None where none is.
      mark: Equal functions with different marks are traced apart.
    """

    fn: LossFn
    caller: str
    has_state: bool = False
    structure: Any = ()  # of JAX, it cannot be compared with None
    places: tuple[int, ...] | None = None
    mark: Any = None

    def __call__(self, space: PyTree, given: Given, batch: Batch) -> Any:
        """Evaluate the function."""
        params = space if self.places is None else self._whole(space, given)
        return self.fn(params, (batch, *given.extras) if given.extras else batch)

    def _whole(self, space: PyTree, given: Given) -> PyTree:
        moved, fixed = iter(jax.tree.leaves(space)), iter(given.others)
        count, places = self.structure.num_leaves, self.places or ()
        return self.structure.unflatten(
            next(moved) if place in places else next(fixed) for place in range(count)
        )

    def restricted(
        self, space: PyTree, given: Given, places: tuple[int, ...]
    ) -> tuple["Function", Given]:
        """Hold all leaves of the parameters fixed but some, counted as in the space."""
        whole = space if self.places is None else self._whole(space, given)
        leaves, structure = jax.tree.flatten(whole)
        known = range(len(leaves)) if self.places is None else self.places
        places = tuple(known[place] for place in places)
        others = tuple(leaf for place, leaf in enumerate(leaves) if place not in places)
        function = replace(self, structure=structure, places=places)
        return function, given._replace(others=others)


@dataclass(frozen=True, eq=False)
class ById:
    """A callable without a hash, such as a module with arrays; equal to itself alone."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.__wrapped__(*args, **kwargs)


def bind_function(
    caller: str,
    fn: LossFn,
    params: PyTree,
    batches: tuple[Any, ...],
    *,
    key: PRNGKey | None,
    model_state: PyTree,
    what: str = "loss_fn",
) -> tuple[Function, PyTree, Given]:
    """Make a function of trained arrays and a batch of one of any form and any kind of model.

    Without batches it may be one of the parameters alone.
    """
    if not callable(fn):
        raise TypeError(f"{caller} needs a function as {what}, got {type(fn).__name__}.")
    try:
        hash(fn)
    except TypeError:
        fn = ById(fn)
    fn = with_batch(fn, batches)
    form = read_form(
        caller, fn, has_key=key is not None, has_model_state=model_state is not None, what=what
    )
    assembly = carried = None
    leaves = jax.tree.leaves(params)
    if is_model(params) or not all(isinstance(leaf, _NUMBERS) for leaf in leaves):
        if not is_model(params):  # a tree of arrays, functions and texts: no integer is trained
            numbers = lambda leaf: leaf if isinstance(leaf, _NUMBERS) else None
            require_inexact(jax.tree.map(numbers, params), caller)
        params, carried, assembly = split_model(params, caller)
        assembly = None if assembly.is_plain else assembly
    require_inexact(params, caller)
    if not jax.tree.leaves(params):
        raise ValueError(f"{caller} needs at least one parameter, got none.")
    has_state = bool(jax.tree.leaves((carried, model_state)))
    extras = ()
    if assembly is not None or form != LossForm():
        fn, extras = BoundLoss(fn, form, assembly), (carried, key, model_state)
    params = jax.tree.map(jnp.asarray, params)
    return Function(fn, caller, has_state), params, Given(extras=extras)
