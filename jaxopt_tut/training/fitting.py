"""Training as one call: data on the device, one donated program a step, a history back."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from jaxopt_tut.datasets import Dataset
from jaxopt_tut.diagnostics import diagnose
from jaxopt_tut.training import steps
from jaxopt_tut.training.arguments import check_numbers, empty_record
from jaxopt_tut.training.data import device_data, num_examples, take
from jaxopt_tut.training.history import History, Recorder
from jaxopt_tut.training.losses import loss_with_state
from jaxopt_tut.training.progress import ProgressLine
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import LossFn, Params, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FitResult:
    """A trained model and how it came about.

    Attributes:
      params: The last parameters (before the first update from a non-finite loss, if one came up).
      opt_state: The optimizer's last state.
      history: Losses and metrics.
      best: The parameters of the epoch with the best score; the last ones without `evaluate`.
      model_state: The model's last state; None for a loss without state.
      best_model_state: The state that belongs to `best`.
      best_epoch: The epoch of `best`, counted from 1; 0 are the initial parameters.
      best_score: Its score; NaN without `evaluate`.
      finite: False if training stopped at a non-finite loss.
      message: One sentence on how training ended.
    """

    params: Params
    opt_state: optax.OptState
    history: History
    best: Params
    model_state: PyTree
    best_model_state: PyTree
    best_epoch: int
    best_score: float
    finite: bool
    message: str = dataclasses.field(metadata={"static": True})


def fit(
    loss_fn: LossFn,
    params: Params | Callable[[Key[Array, ""]], Params],
    optimizer: optax.GradientTransformation,
    dataset: Dataset | PyTree,
    *,
    batch_size: int,
    num_epochs: int,
    key: Key[Array, ""],
    evaluate: Callable[..., Mapping[str, float]] | None = None,
    score: Callable[[Mapping[str, float]], float] | None = None,
    model_state: PyTree = None,
    steps_per_call: int | None = None,
    diagnose_every: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> FitResult:
    r"""Train a model by mini-batches and keep the best parameters.

    $$\theta_{t+1} = \theta_t + u_t, \qquad
      (u_t, s_{t+1}) = \mathrm{update}(\nabla_\theta L(\theta_t, B_t), s_t, \theta_t)$$

    The data stay on the device (images as bytes); gathering a batch, normalising it and the update
    are one compiled program with donated buffers. Epoch $e$ visits the examples in the order drawn
    from `fold_in(shuffle_key, e)` and drops the last partial batch. Calls that share `loss_fn`,
    `optimizer` and shapes share the compiled program.

    Args:
      loss_fn: `(params, batch) -> loss` or `-> (loss, metrics)` with a dictionary of scalars; with
        `model_state` it is called `(params, batch, model_state)` and returns
        `(loss, Aux(metrics, model_state))`. Images come normalised, shape (batch, 28, 28).
      params: The initial parameters, or `init(key) -> params`, which is compiled.
      optimizer: Any optax transformation; it is handed what it asks for, as `optimizers.step` has
        it. Line searches and solvers look at the loss on the batch of the step.
      dataset: A `Dataset`, whose `train` split is normalised with its mean and standard deviation,
        or any tree of arrays with a common first axis, used as it is.
      batch_size: Examples a step.
      num_epochs: Passes over the data; 0 returns what came in.
      key: Split once into a key for `init` and one for the order of the examples.
      evaluate: Called after each epoch as `evaluate(params)`, or `evaluate(params, model_state)` if
        there is a state; returns a dictionary of scalars. See `evaluator`.
      score: Maps that dictionary to the number whose largest value is best; by default its
        `"accuracy"`, else minus its `"loss"`.
      model_state: The initial state of the model (running averages), any tree of arrays.
      steps_per_call: Steps in one dispatch; by default 1 on CPU, where a loop around the step was
        measured to be slower, and 50 elsewhere, where every dispatch costs.
      diagnose_every: Diagnose the network on the batch of every so many steps; one to three
        gradients more each time, and a dispatch that ends there.
      mesh: Devices over which each batch is split along the mesh's first axis; parameters are
        replicated.
      progress: Show a line on the terminal; nothing is shown where there is none.

    Returns:
      The last and the best parameters, optimizer state, history. After a non-finite loss training
      stops at the end of that epoch, with `finite=False` and a `message` that names epoch and step.

    Raises:
      TypeError: If a parameter is not floating or complex.
      ValueError: If `batch_size`, `num_epochs`, `steps_per_call` or `diagnose_every` is out of
        range, the loss is not a scalar, a metric is called "loss", the arrays' first axes differ,
        or the mesh does not divide the batch.

    Example:
      >>> x = jnp.linspace(-1.0, 1.0, 64)
      >>> loss_fn = lambda w, batch: jnp.mean((w * batch[0] - batch[1]) ** 2)
      >>> result = fit(loss_fn, jnp.array(0.0), optax.sgd(0.5), (x, 3 * x),
      ...              batch_size=16, num_epochs=20, key=jax.random.key(0), progress=False)
      >>> round(float(result.params), 3)
      3.0
    """
    data = device_data(dataset, "fit")
    check_numbers(batch_size, num_epochs, steps_per_call, diagnose_every, num_examples(data), mesh)
    init_key, shuffle_key = jax.random.split(key)
    # a module of equinox is callable and a tree of parameters
    if callable(params) and jax.tree_util.treedef_is_leaf(jax.tree.structure(params)):
        params, opt_state = steps.initial_state(init_key, params, optimizer)
        require_inexact(params, "fit")
    else:
        require_inexact(params, "fit")
        # A copy, because the steps donate their buffers and the caller's must survive.
        params = jax.tree.map(jnp.array, params)
        opt_state = jax.jit(optimizer.init)(params)
    has_model_state = model_state is not None
    model_state = jax.tree.map(jnp.array, model_state)
    num_steps = num_examples(data) // batch_size
    carry = steps.Carry(
        params=params,
        opt_state=opt_state,
        model_state=model_state,
        step=jnp.int32(0),
        alive=jnp.bool_(True),
        record=empty_record(loss_fn, params, data, batch_size, num_steps, model_state),
    )
    sharding = None
    if mesh is not None:
        sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
        carry, data, shuffle_key = jax.device_put(
            (carry, data, shuffle_key), NamedSharding(mesh, PartitionSpec())
        )
    steps_per_call = steps_per_call or (1 if jax.default_backend() == "cpu" else 50)

    diagnoses = {}

    def run_epoch(carry: steps.Carry, epoch: int) -> steps.Carry:
        order = steps.epoch_order(shuffle_key, np.uint32(epoch), data, batch_size)
        carry = carry._replace(step=jnp.zeros_like(carry.step))
        stops = [*range(0, num_steps, steps_per_call), num_steps]
        if diagnose_every is not None:
            first = -epoch * num_steps % diagnose_every
            due = range(first, num_steps, diagnose_every)
            stops = sorted({*stops, *due})
        for start, stop in itertools.pairwise(stops):
            if diagnose_every is not None and start in due:
                batch = take(data, order[start]), carry.model_state
                loss = loss_with_state(loss_fn, has_model_state)
                diagnoses[epoch * num_steps + start] = diagnose(loss, carry.params, batch)
            carry = steps.run_steps(
                carry,
                data,
                order,
                np.int32(stop),
                loss_fn=loss_fn,
                optimizer=optimizer,
                has_model_state=has_model_state,
                one_step_per_call=steps_per_call == 1,
                sharding=sharding,
            )
        return carry

    score = score or _default_score
    result = _run_epochs(run_epoch, carry, num_epochs, evaluate, score, progress)
    return dataclasses.replace(result, history=result.history._replace(diagnoses=diagnoses))


def _run_epochs(run_epoch, carry, num_epochs, evaluate, score, progress) -> FitResult:
    """Run and record the epochs, keep the best parameters, stop at a non-finite loss."""
    recorder = Recorder()
    best, best_model_state, best_epoch, best_score = None, None, 0, -math.inf
    message = f"Finished {num_epochs} epochs."
    line = ProgressLine(num_epochs, enabled=progress)
    for epoch in range(num_epochs):
        carry = run_epoch(carry, epoch)
        recorder.add_epoch(jax.device_get(carry.record))
        if not carry.alive:
            message = recorder.non_finite_message(epoch)
            break
        metrics = {}
        if evaluate is not None:
            state = () if carry.model_state is None else (carry.model_state,)
            metrics = {name: float(value) for name, value in evaluate(carry.params, *state).items()}
            recorder.add_validation(metrics)
            new_score = score(metrics)
            # what is not a number is worse than any
            if best is None or new_score > best_score or math.isnan(best_score):
                best_epoch, best_score = epoch + 1, new_score
                best, best_model_state = _copy((carry.params, carry.model_state))
        line.show(epoch + 1, {"loss": recorder.train["loss"][-1], **metrics})
    line.close()
    if best is None:
        best, best_model_state = _copy((carry.params, carry.model_state))
        best_epoch, best_score = len(recorder.train.get("loss", ())), math.nan
    return FitResult(
        params=carry.params,
        opt_state=carry.opt_state,
        history=recorder.history(carry.record),
        best=best,
        model_state=carry.model_state,
        best_model_state=best_model_state,
        best_epoch=best_epoch,
        best_score=best_score,
        finite=bool(carry.alive),
        message=message,
    )


def _default_score(metrics: Mapping[str, float]) -> float:
    if "accuracy" in metrics:
        return metrics["accuracy"]
    if "loss" in metrics:
        return -metrics["loss"]
    raise ValueError(
        "fit needs score= unless evaluate returns 'accuracy' or 'loss', "
        f"got the metrics {sorted(metrics)}."
    )


_copy = jax.jit(partial(jax.tree.map, jnp.copy))
"""The best parameters outlive the steps, which donate their buffers."""
