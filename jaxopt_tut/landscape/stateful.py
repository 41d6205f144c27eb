"""A loss with the state of its model, which it reads in evaluation and renews in training."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut import jaxprs
from jaxopt_tut.loss_forms import LossForm, read_form
from jaxopt_tut.losses import described, is_real_scalar, loss_rule, take_pair
from jaxopt_tut.splitting import Assembly, is_model, library_of, split_model
from jaxopt_tut.trees import require_inexact, require_same_structure
from jaxopt_tut.types import Batch, LossFn, Params, PyTree, Scalar


class State(NamedTuple):
    """What a loss reads beside parameters and data."""

    carried: PyTree
    """What its model carries beside the trained arrays."""
    own: PyTree
    """The `model_state` of the user."""


class Outcome(NamedTuple):
    """What a loss returns."""

    loss: Scalar
    metrics: dict[str, Array]
    state: State | None
    """None where the loss renews nothing."""


@dataclass(frozen=True)
class StatefulLoss:
    """A loss of trained arrays, data, state and key; equal where it is the same.

    Attributes:
      caller: Who asks; it opens the messages.
      loss_fn: The loss as it came.
      form: What it is called with.
      assembly: What its model is beside its arrays; None for parameters as they are.
      is_training: The mode of modules of flax nnx and equinox; None leaves them as they are.
    """

    caller: str
    loss_fn: LossFn
    form: LossForm
    assembly: Assembly | None
    is_training: bool | None

    def __call__(self, trained: Params, batch: Batch, state: State, key: Any) -> Outcome:
        """Evaluate the loss, and take over what becomes of the state."""
        model, now = trained, lambda: state.carried
        if self.assembly is not None:
            model, now = self.assembly.open(trained, state.carried)
        if self.is_training is not None:
            model = _in_mode(model, self.is_training)
        # in containers of its own: a state of equinox can be used but once
        own = jax.tree.map(lambda leaf: leaf, state.own)
        out = self.form.call(self.loss_fn, model, batch, key, own)
        loss, aux = take_pair(self.caller, out)
        if not is_real_scalar(loss):
            raise ValueError(f"{loss_rule(self.caller)}, a real scalar, got {described(loss)}.")
        metrics = {
            name: self._metric(name, value) for name, value in dict(aux.metrics or {}).items()
        }
        return Outcome(jnp.asarray(loss), metrics, self._renewed(aux.model_state, state, now))

    def _metric(self, name: str, value: Any) -> Array:
        is_number = isinstance(value, bool | int | float) or hasattr(value, "dtype")
        if not is_number or getattr(value, "shape", ()) != ():
            raise ValueError(
                f"{self.caller} needs scalars as metrics, got {described(value)} for {name!r}."
            )
        metric = jnp.asarray(value)
        return metric if jnp.issubdtype(metric.dtype, jnp.floating) else metric.astype(jnp.float32)

    def _renewed(self, new: PyTree, old: State, now: Callable[[], PyTree]) -> State | None:
        """Put what a loss returned into the containers of the state before."""
        if old.own is None and new is not None:
            collections = self.assembly and self.assembly.collections_of(new, old.carried)
            if collections is None:
                raise ValueError(
                    f"{self.caller} needs model_state= for a loss that returns a new one, got None."
                )
            return State(_refilled(self.caller, old.carried, collections), None)
        is_led = self.assembly is not None and self.is_training is not None
        if new is None and (old.own is not None or not is_led):
            return None
        own = old.own if new is None else _refilled(self.caller, old.own, new)
        return State(_refilled(self.caller, old.carried, now()), own)


def refuse_frozen(
    loss: StatefulLoss, trained: Params, batch: Batch, state: State, key: Any
) -> None:
    """Refuse a loss that reads a state and leaves all of it as it is: it is that of evaluation."""
    leaves, structure = jax.tree.flatten(state)

    def values(leaves: list[Any]) -> tuple[Any, list[Any]]:
        out = loss(trained, batch, structure.unflatten(leaves), key)
        return out.loss, leaves if out.state is None else jax.tree.leaves(out.state)

    program = jax.make_jaxpr(values)(leaves)
    read, one = jaxprs.reach(program)[0], jaxprs.open_jaxpr(program)
    is_inexact = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]
    reads = any(float_ and i in read for i, float_ in enumerate(is_inexact))
    is_kept = all(new is old for new, old in zip(one.outvars[1:], one.invars, strict=True))
    if reads and is_kept:
        raise ValueError(
            f"{loss.caller} needs a loss as in training for statistics='batch', which normalises "
            "by the batch and returns (loss, Aux(metrics, model_state)), got one that reads the "
            "state and leaves it as it is: hand over that of the training as training_loss=."
        )


def _refilled(caller: str, old: PyTree, new: PyTree) -> PyTree:
    require_same_structure(old, new, caller)
    return jax.tree.unflatten(jax.tree.structure(old), jax.tree.leaves(new))


class Opened(NamedTuple):
    """A model, taken apart for a loss."""

    trained: Params
    state: State
    has_modes: bool
    """Whether its library lets the mode be set from outside."""
    bind: Callable[[LossFn, bool | None], StatefulLoss]
    """From a loss and a mode to one of trained arrays and state."""
    assembly: Assembly | None

    def put_back(self, state: State) -> PyTree:
        """Return the model with another state."""
        if self.assembly is None:
            return self.trained
        return self.assembly.build(self.trained, state.carried)


def open_stateful(
    caller: str, loss_fn: LossFn, params: PyTree, *, key: Any, model_state: PyTree
) -> Opened:
    """Take a model apart, and read how its losses are called."""
    if not callable(loss_fn):
        raise TypeError(f"{caller} needs a function, got {type(loss_fn).__name__}.")
    assembly, carried, trained = None, None, params
    if is_model(params):
        trained, carried, assembly = split_model(params, caller)
    require_inexact(trained, caller)
    trained = jax.tree.map(jnp.asarray, trained)

    def bind(loss_fn: LossFn, is_training: bool | None) -> StatefulLoss:
        form = read_form(
            caller, loss_fn, has_key=key is not None, has_model_state=model_state is not None
        )
        return StatefulLoss(caller, loss_fn, form, assembly, is_training)

    state = State(carried, model_state)
    has_modes = assembly is not None and _has_modes(params)
    return Opened(trained, state, has_modes, bind, assembly)


def _has_modes(model: PyTree) -> bool:
    is_module = lambda part: library_of(part) in ("nnx", "equinox")
    return any(map(is_module, jax.tree.leaves(model, is_leaf=is_module)))


def _in_mode(model: PyTree, is_training: bool) -> PyTree:
    """Set the mode of all modules; those of flax nnx are copies that nobody else has."""
    is_module = lambda part: library_of(part) == "nnx"
    for part in jax.tree.leaves(model, is_leaf=is_module):
        if is_module(part) and hasattr(part, "train"):
            part.train() if is_training else part.eval()
    is_equinox = lambda part: library_of(part) == "equinox"
    if any(map(is_equinox, jax.tree.leaves(model, is_leaf=is_equinox))):
        return sys.modules["equinox"].nn.inference_mode(model, not is_training)
    return model
