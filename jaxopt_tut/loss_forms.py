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
from typing import Any

import jax

from jaxopt_tut.types import Batch, LossFn, Params, PyTree

__all__ = ["LossForm", "read_form"]

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
      TypeError: If the loss cannot be called so.

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
