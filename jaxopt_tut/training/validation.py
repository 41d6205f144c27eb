"""Examples that are held out of training, and the loss on them."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.loss_forms import read_form
from jaxopt_tut.training.data import AnyKey, Batches, Examples, Streamed, device_data, num_examples
from jaxopt_tut.training.evaluation import Evaluate, Metrics, averager
from jaxopt_tut.training.losses import loss_and_aux
from jaxopt_tut.training.scalars import as_count, as_metrics
from jaxopt_tut.types import Batch, LossFn, Params, PyTree

Validation = TypeAliasType("Validation", Split | PyTree | float | int | None)
"""Examples, or how many of those to train on are held out, a fraction or a number; or none."""

HELD_OUT = 0x68656C64
"""Makes of the key of a run, by `fold_in`, the one that draws which examples are held out."""


def hold_out(dataset: Examples, validation: Validation, key: AnyKey) -> tuple[Examples, Examples]:
    """Return the examples to train on, and those to look at after each epoch."""
    if isinstance(validation, Dataset | Streamed | Batches | str):
        raise TypeError(
            "fit needs a Split, arrays, a fraction or a number as validation, got "
            f"{type(validation).__name__}: hand over a part of a Dataset, dataset.test, and of "
            "other data arrays."
        )
    if not isinstance(validation, float | int | np.generic):
        if isinstance(dataset, Dataset):
            _require_bytes(dataset, validation)
        return dataset, validation
    if isinstance(dataset, Streamed | Batches):
        raise TypeError(
            "fit needs the examples of validation= themselves for data that are not on the "
            f"device, got validation={validation!r}."
        )
    size = _size(dataset.train if isinstance(dataset, Dataset) else dataset)
    count = _count(validation, size)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, HELD_OUT), size))
    held, rest = np.sort(order[:count]), np.sort(order[count:])
    if isinstance(dataset, Dataset):
        return dataset._replace(train=_rows(dataset.train, rest)), _rows(dataset.train, held)
    return _rows(dataset, rest), _rows(dataset, held)


def _require_bytes(dataset: Dataset, validation: Any) -> None:
    """Refuse, beside a `Dataset`, a `Split` that is normalised already, and raw bytes that are not.

    Other arrays are looked at as they are, so that grey values among them would meet a network that
    has seen normalised ones: a loss like any other to look at.
    """
    advice = "hand over dataset.test, or another Split of uint8 images, which fit normalises."
    if isinstance(validation, Split):
        dtype = getattr(validation.images, "dtype", type(validation.images).__name__)
        if dtype != np.uint8:
            raise TypeError(
                "fit needs a Split of uint8 images as validation beside a Dataset, got images of "
                f"{dtype}, as dataset.batch returns them: {advice}"
            )
        return
    num_pixels = math.prod(np.shape(dataset.train.images)[1:])
    for leaf in jax.tree.leaves(validation):
        shape, dtype = getattr(leaf, "shape", ()), getattr(leaf, "dtype", np.float32)
        is_image = len(shape) > 1 and math.prod(shape[1:]) == num_pixels
        if is_image and jnp.issubdtype(dtype, jnp.integer):
            raise TypeError(
                "fit needs normalised images in arrays as validation beside a Dataset, got grey "
                f"values of {dtype}, shape {tuple(shape)}: {advice}"
            )


def _size(tree: PyTree) -> int:
    """Return the length of the common first axis of arrays that stay where they are."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")}
    is_array = all(hasattr(leaf, "shape") for leaf in jax.tree.leaves(tree))
    if len(sizes) == 1 and is_array and () not in sizes:
        return next(iter(sizes))[0]
    return num_examples(device_data(tree, "fit"))  # which says what is wrong


def _count(validation: Any, size: int) -> int:
    """Return how many examples are meant."""
    if isinstance(validation, float | np.floating):
        if not 0 < validation < 1:
            raise ValueError(
                f"fit needs a fraction 0 < validation < 1, got validation={float(validation)}."
            )
        count = round(float(validation) * size)
    else:
        count = as_count("fit", "validation", validation)
    if not 1 <= count < size:
        raise ValueError(
            f"fit needs at least one example to train on and one to hold out, of {size}, "
            f"got validation={validation}."
        )
    return count


def _rows(tree: PyTree, index: Int[np.ndarray, "rows"]) -> PyTree:
    """Take examples where they lie, on the host or on the device."""
    take = lambda leaf: leaf[index] if isinstance(leaf, np.ndarray) else jnp.asarray(leaf)[index]
    return jax.tree.map(take, tree)


@dataclass(frozen=True)
class _LossMetrics:
    """The loss and its metrics as metrics of an evaluator; found again where the loss is."""

    loss_fn: LossFn
    has_model_state: bool
    draws: bool

    def __call__(self, params: Params, batch: Batch, given: PyTree) -> dict[str, Array]:
        """Evaluate a batch."""
        has_key = None if self.draws else False
        normal_form = loss_and_aux(self.loss_fn, self.has_model_state, has_key=has_key)
        loss, aux = normal_form(params, batch, *given)
        return {"loss": loss, **(aux.metrics or {})}


def evaluator_on(dataset: Examples, held: Any, metrics: Metrics, **options: Any) -> Evaluate:
    """Build what averages metrics over examples that were held out, images normalised."""
    options = {"names": ("fit", "metrics"), **options}
    if isinstance(dataset, Dataset) and isinstance(held, Split):
        return averager(metrics, dataset, held, **options)
    return averager(metrics, held, **options)


def validator(
    loss_fn: LossFn,
    dataset: Examples,
    held: Any,
    key: AnyKey,
    *,
    batch_size: int,
    has_model_state: bool,
    draws: bool,
) -> Evaluate:
    """Build what evaluates a loss, and its metrics, on examples that were held out."""
    metrics = _LossMetrics(loss_fn, has_model_state, draws)
    fixed = jax.random.fold_in(key, HELD_OUT + 1) if draws else None
    names = "fit", "loss_fn"
    evaluate = evaluator_on(dataset, held, metrics, batch_size=batch_size, names=names)
    return lambda params, model_state=None: evaluate(params, (model_state, fixed))


def check_evaluation(
    name: str, evaluate: Evaluate, score: Any, params: Params, model_state: PyTree
) -> None:
    """Look at the shapes of metrics before the first step: what is wrong would cost an epoch."""
    state = () if model_state is None else (model_state,)
    found = jax.eval_shape(lambda *args: as_metrics("fit", name, evaluate(*args)), params, *state)
    if score is None and not {"accuracy", "loss"} & set(found):
        first = min(found, default="error")
        raise ValueError(
            f"fit needs score= to choose the best by, unless {name} returns 'accuracy' or 'loss', "
            f"got {name} that returns {sorted(found)}: write score=lambda m: -m[{first!r}] if less "
            f"is better, m[{first!r}] if more."
        )


def needs_key(loss_fn: LossFn, has_model_state: bool) -> bool:
    """Tell a loss that has to be given a key from one that may be called without."""
    try:
        read_form("fit", loss_fn, has_key=False, has_model_state=has_model_state)
    except TypeError:
        return True
    return False
