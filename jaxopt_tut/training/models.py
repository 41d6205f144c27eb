"""Any model as `fit` works on it: a tree of trained arrays, and a state that holds the others."""

import inspect
from dataclasses import dataclass
from typing import Any

from jaxopt_tut.loss_forms import LossForm, read_form
from jaxopt_tut.losses import Aux, take_pair
from jaxopt_tut.splitting import Assembly
from jaxopt_tut.training.evaluation import Evaluate
from jaxopt_tut.training.losses import like_the_old
from jaxopt_tut.types import Batch, LossFn, Params, PyTree


@dataclass(frozen=True)
class Packing:
    """How what a model carries and the state of the user's make one state.

    Attributes:
      assembly: What the model is beside its arrays.
      has_state: Whether the user hands over a state, too.
      caller: The public function that works on the model.
    """

    assembly: Assembly
    has_state: bool
    caller: str = "fit"

    def pack(self, carried: PyTree, own: PyTree) -> PyTree:
        """Make one state of both; None where there is neither."""
        if not self.assembly.carries:
            return own
        return {"model": carried, "model_state": own} if self.has_state else carried

    def unpack(self, state: PyTree) -> tuple[PyTree, PyTree]:
        """Return what the model carries, and the state of the user's."""
        if not self.assembly.carries:
            return None, state
        return (state["model"], state["model_state"]) if self.has_state else (state, None)

    def outward(self, params: Params, state: PyTree) -> tuple[PyTree, PyTree]:
        """Return a model of the user's kind, and their state."""
        carried, own = self.unpack(state)
        return self.assembly.build(params, carried), own

    def taken(self, loss_fn: LossFn, *, has_key: bool | None = None) -> LossFn:
        """Make a loss of a model one of trained arrays and the one state."""
        if self.assembly.is_plain:
            return loss_fn
        form = read_form(self.caller, loss_fn, has_key=has_key, has_model_state=self.has_state)
        return ModelLoss(loss_fn, form, self)

    def evaluated(self, evaluate: Evaluate) -> Evaluate:
        """Make a function of trained arrays and the one state of one of the user's model."""

        def on_model(params: Params, state: PyTree = None) -> Any:
            model, own = self.outward(params, state)
            return evaluate(model, own) if self.has_state else evaluate(model)

        return on_model


class ModelLoss:
    """The loss of a model as one of its trained arrays and of the one state; equal where it is."""

    def __init__(self, loss_fn: LossFn, form: LossForm, packing: Packing):
        """Take the arguments of the loss, and a state if there is one."""
        self._identity = loss_fn, form, packing
        self._hash = hash(self._identity)  # once: every dispatch of a program asks for it
        has_state = packing.has_state or packing.assembly.carries
        self._extra = ("key",) * form.takes_key + ("model_state",) * has_state
        names = "params", "batch", *self._extra
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])

    def __hash__(self) -> int:
        """Return that of all that is not an array."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare all that is not an array."""
        return self is other or (isinstance(other, ModelLoss) and self._identity == other._identity)

    def __call__(self, params: Params, batch: Batch, *extra: Any) -> tuple[Any, Aux]:
        """Evaluate the loss of the model, and take over what became of what it carries."""
        loss_fn, form, packing = self._identity
        given = dict(zip(self._extra, extra, strict=True))
        carried, own = packing.unpack(given.get("model_state"))
        model, now = packing.assembly.open(params, carried)
        returned = form.call(loss_fn, model, batch, given.get("key"), own)
        loss, aux = take_pair(packing.caller, returned)
        new = aux.model_state
        if not packing.has_state:
            collections = packing.assembly.collections_of(new, carried)
            if collections is not None:
                _refuse_unknown(packing.caller, new, collections)
                return loss, Aux(aux.metrics, collections)
        new = like_the_old(packing.caller, new, own)
        return loss, Aux(aux.metrics, packing.pack(now(), new))


def _refuse_unknown(caller: str, updated: Any, collections: Any) -> None:
    """Refuse collections of flax linen that the model does not have: they would be lost."""
    unknown = sorted(set(updated) - set(collections) - {"params"})
    if unknown:
        raise ValueError(
            f"{caller} needs Aux(model_state=) to have collections of the model, "
            f"{sorted(collections)}, got {unknown}: leave out what is not to be kept, or begin "
            "with variables that have it."
        )
