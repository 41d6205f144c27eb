"""The forms of a loss: what it is called with beside parameters and batch.

| form | where |
| --- | --- |
| `(params, batch)` | the loss is a function of these alone |
| `(params, batch, key)` | it draws: masks of dropout, noise |
| `(params, batch, model_state)` | it is handed a state, such as running averages |
| `(params, batch, key, model_state)` | both |

Which of them a loss has is read off its signature, so that one loss goes in wherever one is taken.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from jaxopt_tut.splitting import Assembly, is_model, split_model
from jaxopt_tut.types import Batch, LossFn, Params, PyTree

__all__ = [
    "LOSS",
    "Bound",
    "BoundLoss",
    "LossForm",
    "bind_given",
    "bind_loss",
    "read_form",
    "with_batch",
]

LOSS = 0x6C6F7373
"""Makes of the one key of a call, by `fold_in`, the key of its loss; users count from 0."""

_STATES = ("model_state", "state")
_SLOTS = ("key", "model_state")


@dataclass(frozen=True)
class LossForm:
    """What a loss is called with beside parameters and batch.

    Attributes:
      positional: Of `"key"` and `"model_state"` what it takes by position, in its order.
      named: What it takes by name, and by which.
    """

    positional: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()

    @property
    def takes_key(self) -> bool:
        """Whether it is handed a key."""
        return "key" in (*self.positional, *(slot for _, slot in self.named))

    def call(
        self,
        loss_fn: LossFn,
        params: Params,
        batch: Batch,
        key: jax.Array | None = None,
        model_state: PyTree = None,
    ) -> Any:
        """Call a loss of this form.

        Args:
          loss_fn: The loss.
          params: The parameters.
          batch: The data.
          key: For a loss that draws.
          model_state: For a loss with a state.

        Returns:
          What the loss returns.
        """
        given = {"key": key, "model_state": model_state}
        extra = [given[slot] for slot in self.positional]
        return loss_fn(params, batch, *extra, **{name: given[slot] for name, slot in self.named})


def read_form(
    caller: str,
    loss_fn: LossFn,
    *,
    has_key: bool | None,
    has_model_state: bool,
    what: str = "loss_fn",
) -> LossForm:
    """Read off the signature of a loss what it is called with.

    Behind parameters and batch stand a key and a state, in this order where they have other names
    than `key` and `model_state` (or `state`). A parameter with a default is left alone, unless it
    is named `key` or `model_state`.

    Args:
      caller: The name of the function that asks; it opens the message.
      loss_fn: The loss.
      has_key: Whether a key was given, which the loss must take then; None where there always is
        one, for a loss that takes it.
      has_model_state: Whether a state was given, which the loss must take then.
      what: What the caller names the loss.

    Returns:
      The form.

    Raises:
      TypeError: If the loss cannot be called so, or is no function.

    Example:
      >>> read_form("fit", lambda w, x, rng: w, has_key=None, has_model_state=False).positional
      ('key',)
      >>> read_form("fit", lambda w, x, s, rate=0.1: w, has_key=None, has_model_state=True)
      LossForm(positional=('model_state',), named=())
      >>> read_form("fit", lambda w: w, has_key=None, has_model_state=False)
      Traceback (most recent call last):
      ...
      TypeError: fit calls loss_fn(params, batch), got a loss of (w): too many positional arguments.
    """
    if not callable(loss_fn):
        raise TypeError(f"{caller} needs a function as {what}, got {type(loss_fn).__name__}.")
    wanted = [slot for slot, given in zip(_SLOTS, (has_key, has_model_state), strict=True) if given]
    try:
        signature = inspect.signature(loss_fn)
    except (TypeError, ValueError):  # some callables have none
        return LossForm(tuple(wanted))
    offered = [
        slot
        for slot, given in zip(_SLOTS, (has_key is not False, has_model_state), strict=True)
        if given
    ]
    form = _matched(loss_fn, signature, offered, wanted)
    names = "params", "batch", *form.positional
    taken = (*form.positional, *(slot for _, slot in form.named))
    left = [slot for slot in wanted if slot not in taken]
    try:
        if left and not _takes_any(signature):
            signature.bind(*[None] * (2 + len(signature.parameters)))
        signature.bind(*names, *left, **dict(form.named))
    except TypeError as error:
        shown = ", ".join([*names, *left, *(name for name, _ in form.named)])
        raise TypeError(
            f"{caller} calls {what}({shown}), got a loss of {signature}: {error}"
            f"{_hint(caller, str(error), has_key, has_model_state)}."
        ) from None
    return LossForm((*form.positional, *left), form.named)


def _matched(
    loss_fn: Callable[..., Any],
    signature: inspect.Signature,
    offered: list[str],
    wanted: list[str],
) -> LossForm:
    """Give each parameter behind the first two what it is for, of what there is to give."""
    parameters = list(signature.parameters.values())
    extra = [
        one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ][2:]
    bound = getattr(loss_fn, "keywords", {})  # of a partial function: given by the user
    by_name = [one for one in parameters if one.kind == one.KEYWORD_ONLY and one.name not in bound]
    uses = {one.name: slot for one in [*extra, *by_name] if (slot := _slot(one)) in offered}
    nameless = [one for one in extra if _slot(one) is None]
    required = [one.name for one in nameless if one.default is one.empty]
    free = [slot for slot in offered if slot not in uses.values()]
    # one alone beside a state is the state: a key is for those who ask for both
    uses |= zip(required, free[-len(required) :], strict=False)
    optional = [one.name for one in nameless if one.default is not one.empty]
    uses |= zip(optional, [slot for slot in wanted if slot not in uses.values()], strict=False)
    positional = []
    for one in extra:
        if one.name not in uses:
            break
        positional.append(uses.pop(one.name))
    return LossForm(tuple(positional), tuple(uses.items()))


def _takes_any(signature: inspect.Signature) -> bool:
    return any(one.kind == one.VAR_POSITIONAL for one in signature.parameters.values())


def _slot(parameter: inspect.Parameter) -> str | None:
    """Tell by its name what a parameter is for."""
    if parameter.name == "key":
        return "key"
    is_state = parameter.name == "model_state" or (
        parameter.name in _STATES and parameter.default is parameter.empty
    )
    return "model_state" if is_state else None


def _hint(caller: str, error: str, has_key: bool | None, has_model_state: bool) -> str:
    """Say what to hand over to a loss that asks for more."""
    if "missing" not in error:
        return ""
    if has_key is False:
        return f"; a key for a loss that draws is {caller}(..., key=)"
    return "" if has_model_state else f"; its state is {caller}(..., model_state=)"


@dataclass(frozen=True)
class _WithoutBatch:
    """A function of parameters alone; equal where it is the same."""

    fn: LossFn

    def __call__(self, params: PyTree, batch: Batch) -> Any:
        """Leave the batch out."""
        assert batch is None
        return self.fn(params)


def with_batch(loss_fn: LossFn, batches: tuple[Any, ...]) -> LossFn:
    """Make a loss of parameters and a batch, None, of one of parameters alone without batches.

    Args:
      loss_fn: The loss.
      batches: The data.

    Returns:
      The loss as it came, where there are batches or it takes one.

    Example:
      >>> with_batch(lambda w: 2 * w, ())(3.0, None)
      6.0
    """
    return loss_fn if batches or not _takes_parameters_alone(loss_fn) else _WithoutBatch(loss_fn)


def _takes_parameters_alone(fn: LossFn) -> bool:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some callables have none
        return False

    def takes(count: int) -> bool:
        try:
            signature.bind(*[None] * count)
        except TypeError:
            return False
        return True

    return takes(1) and not takes(2)


@dataclass(frozen=True)
class BoundLoss:
    """A loss of parameters and of one tree with all else; equal where it is the same.

    Attributes:
      loss_fn: The loss.
      form: What it is called with.
      assembly: What its model is beside its arrays; None where the parameters are the model.
    """

    loss_fn: LossFn
    form: LossForm
    assembly: Assembly | None

    @property
    def __name__(self) -> str:
        """Give the name of the loss, for messages."""
        return getattr(self.loss_fn, "__name__", type(self.loss_fn).__name__)

    def __call__(self, params: Params, given: tuple[Any, ...]) -> Any:
        """Evaluate the loss on `(batch, carried, key, model_state)`."""
        return self.apart(params, *given)

    def apart(
        self,
        params: Params,
        batch: Batch,
        carried: PyTree,
        key: jax.Array | None,
        model_state: PyTree,
    ) -> Any:
        """Evaluate the loss on what it is given, by name."""
        model = params if self.assembly is None else self.assembly.build(params, carried)
        # in containers of its own: a state of equinox can be used but once
        state = jax.tree.map(lambda leaf: leaf, model_state)
        return self.form.call(self.loss_fn, model, batch, key, state)


class Bound(NamedTuple):
    """A loss of parameters and a batch alone.

    Attributes:
      loss_fn: `loss_fn(params, batch)`: the loss as it came, or a `BoundLoss`.
      params: The model as it came, or what is trained in it.
      batch: The batch as it came, or with what else the loss is given.
    """

    loss_fn: LossFn
    params: Params
    batch: Batch

    @property
    def examples(self) -> Batch:
        """The batch as it came."""
        return self.batch[0] if isinstance(self.loss_fn, BoundLoss) else self.batch

    def on(self, examples: Batch, count: jax.Array | int) -> Batch:
        """Return the batch with other examples; a loss that draws does so anew for each count."""
        if not isinstance(self.loss_fn, BoundLoss):
            return examples
        _, carried, key, model_state = self.batch
        key = None if key is None else jax.random.fold_in(key, count)
        return examples, carried, key, model_state

    def put_back(self, params: Params) -> PyTree:
        """Return a model of the kind that came with these parameters."""
        assembly = self.loss_fn.assembly if isinstance(self.loss_fn, BoundLoss) else None
        return params if assembly is None else assembly.build(params, self.batch[1])

    @property
    def by_argument(self) -> tuple[Any, ...]:
        """A function, and its arguments one by one."""
        if isinstance(self.loss_fn, BoundLoss):
            return self.loss_fn.apart, self.params, *self.batch
        return self.loss_fn, self.params, self.batch


def bind_loss(
    caller: str,
    loss_fn: LossFn,
    params: PyTree,
    batch: Batch,
    form: LossForm,
    *,
    key: jax.Array | None = None,
    model_state: PyTree = None,
) -> Bound:
    """Make a loss of parameters and a batch of one of any form and any kind of model.

    Args:
      caller: The name of the function that asks; it opens the messages.
      loss_fn: The loss.
      params: Its model.
      batch: The data.
      form: What the loss is called with, see `read_form`.
      key: For a loss that draws.
      model_state: For a loss with a state.

    Returns:
      The loss, and what it is to be called with; all as it came where nothing has to be done.

    Raises:
      TypeError: If a state of equinox is among the parameters.

    Example:
      >>> loss_fn = lambda w, x, key: w * x + jax.random.uniform(key)
      >>> form = read_form("diagnose", loss_fn, has_key=True, has_model_state=False)
      >>> bound = bind_loss("diagnose", loss_fn, 2.0, 3.0, form, key=jax.random.key(0))
      >>> bool(6.0 < bound.loss_fn(bound.params, bound.batch) < 7.0)
      True
    """
    assembly = carried = None
    if is_model(params):
        parts = split_model(params, caller, hashed=False)
        if parts.assembly.carries:
            params, carried, assembly = parts
    if assembly is None and form == LossForm():
        return Bound(loss_fn, params, batch)
    return Bound(BoundLoss(loss_fn, form, assembly), params, (batch, carried, key, model_state))


def bind_given(
    caller: str,
    loss_fn: LossFn,
    params: PyTree,
    batch: Batch,
    *,
    key: jax.Array | None,
    model_state: PyTree,
) -> Bound:
    """Bind a loss to what a caller was given, who hands on a key and a state if there are any.

    Args:
      caller: The name of the function that asks; it opens the messages.
      loss_fn: The loss.
      params: Its model.
      batch: The data.
      key: A key, which the loss must take then.
      model_state: A state, likewise.

    Returns:
      The loss, and what it is to be called with.

    Raises:
      TypeError: If the loss cannot be called so, or is no function.
    """
    if not callable(loss_fn):
        raise TypeError(f"{caller} needs a function, got {type(loss_fn).__name__}.")
    form = read_form(
        caller, loss_fn, has_key=key is not None, has_model_state=model_state is not None
    )
    return bind_loss(caller, loss_fn, params, batch, form, key=key, model_state=model_state)
