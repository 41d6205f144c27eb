"""Training as one call: data on the device, one donated program a step, a history back."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from typing_extensions import TypeAliasType

from jaxopt_tut.devices import Devices, placed, replicated, with_auto_axes
from jaxopt_tut.keys import require_key
from jaxopt_tut.loss_forms import LOSS, read_form
from jaxopt_tut.optimizers.inner import require_optimizer
from jaxopt_tut.training import arguments, steps
from jaxopt_tut.training.checkpoints.options import Checkpoint, as_checkpoint
from jaxopt_tut.training.checkpoints.saver import Saver
from jaxopt_tut.training.data import AnyKey, Examples, Layout, open_data
from jaxopt_tut.training.evaluation import Evaluate, Metrics, Score, is_pure
from jaxopt_tut.training.events import OnEvent
from jaxopt_tut.training.fingerprints import fingerprint as fingerprint_of
from jaxopt_tut.training.loop import Loop
from jaxopt_tut.training.measuring import Measurements, Probes, as_probes
from jaxopt_tut.training.models import Packing
from jaxopt_tut.training.peers import watched
from jaxopt_tut.training.result import FitResult
from jaxopt_tut.training.running import run_epochs
from jaxopt_tut.training.scalars import Count, require_hash
from jaxopt_tut.training.sharding import Cut, lay_out, mesh_of
from jaxopt_tut.training.stops import Stop
from jaxopt_tut.training.validation import (
    Validation,
    check_evaluation,
    evaluator_on,
    hold_out,
    needs_key,
    validator,
)
from jaxopt_tut.types import LossFn, Optimizer, Params, PyTree

ParamsOrInit = TypeAliasType("ParamsOrInit", Params | Callable[[AnyKey], Params])
"""The parameters, or a function that draws them."""


Saving = TypeAliasType("Saving", Checkpoint | str | os.PathLike[str])
"""Where to save, and how; or where alone."""


def fit(
    loss_fn: LossFn,
    params: ParamsOrInit,
    optimizer: Optimizer,
    dataset: Examples,
    *,
    batch_size: Count | None = None,
    num_epochs: Count,
    key: AnyKey,
    validation: Validation = None,
    metrics: Metrics | None = None,
    evaluate: Evaluate | None = None,
    score: Score | None = None,
    model_state: PyTree = None,
    opt_state: PyTree = None,
    checkpoint: Saving | None = None,
    stop: Stop | None = None,
    accumulate: Count = 1,
    steps_per_call: Count | None = None,
    mesh: Devices | None = None,
    shard: Cut | None = None,
    on_event: OnEvent | None = None,
    probes: Probes = None,
    probe_every: Count = 10,
    diagnose_every: Count | None = None,
    progress: bool = True,
) -> FitResult:
    r"""Train a model by mini-batches and keep the best parameters.

    $$\theta_{t+1} = \theta_t + u_t, \qquad
      (u_t, s_{t+1}) = \mathrm{update}(\nabla_\theta L(\theta_t, B_t), s_t, \theta_t)$$

    The data stay on the device (images as bytes); gathering a batch, normalising it and the update
    are one compiled program with donated buffers. Epoch $e$ visits the examples in the order drawn
    from `fold_in(shuffle_key, e)` and drops the last partial batch. Calls that share `loss_fn`,
    `optimizer` and shapes share the compiled program.

    Training stops at the first step whose loss, gradient, new parameters or new model state is not
    finite, with the parameters before it; the result's `finite` and `message` tell, and name the
    leaf. A gradient that is not finite is the optimizer's to skip: as long as the parameters stay
    finite and the optimizer state free of new NaN (`optax.apply_if_finite`, `optax.zero_nans`,
    `optax.MultiSteps` with `skip_not_finite`), training goes on. An infinity in that state is no
    reason to stop, because some begin with one; a second moment that overflows freezes its weight.
    But for the loss, all this is looked at where an epoch ends, which is then taken again from a
    copy of its start, in steps that look at it each: what such a state has forgotten by then is
    not noticed. Ctrl-C returns what there is; a second one interrupts.

    The host leads the run: inside `jit`, `vmap` or `grad` take `train`, the same loop as a pure
    function.

    To go on from a result, hand its parameters and `opt_state` back, with another key: every call
    counts its epochs from 0, and the same key would draw the same orders once more.

        more = fit(loss_fn, result.params, optimizer, dataset, opt_state=result.opt_state,
                   model_state=result.model_state, key=jax.random.fold_in(key, 1), ...)

    Args:
      loss_fn: `(params, batch) -> loss` or `-> (loss, metrics)` with a dictionary of scalars. A
        third parameter, `(params, batch, key)`, is handed a new key at each step, for dropout or
        noise. With `model_state` that comes last, `(params, batch, model_state)` or
        `(params, batch, key, model_state)`, and the loss returns
        `(loss, Aux(metrics, model_state))`. Images come normalised, shape (batch, 28, 28).
      params: The initial model: a module of flax nnx or equinox, variables of flax linen, any tree
        of arrays, or `init(key)` that draws one, which is compiled. Floating and complex arrays are
        trained; of nnx those in an `nnx.Param`, of linen those in `"params"` (a mapping in which
        that is one of several mappings is one of linen). All else is kept beside them, and the loss
        is called with the whole. What it changes in a module of nnx (averages, counts of keys)
        is changed for the next step; collections of linen are, where it returns
        `Aux(metrics, model_state=updates)`. The optimizer sees a tree of the trained arrays.
      optimizer: Any optax transformation; it is handed what it asks for, as `optimizers.step` has
        it. Line searches and solvers look at the loss on the batch of the step.
      dataset: A `Dataset`, whose `train` split is normalised with its mean and standard deviation,
        or any tree of arrays with a common first axis, used as it is; `Streamed` ones, which need
        not fit on the device, or `Batches` of an iterator.
      batch_size: Examples a step; to be left out for `Batches`, which have their own.
      num_epochs: Passes over the data; 0 returns what came in.
      key: Split once into a key for `init` and one for the order of the examples, and folded into
        one for a loss that draws; of `jax.random.key`, or an older one of `jax.random.PRNGKey`.
      validation: Examples on which the loss and its metrics are evaluated after each epoch, for
        `history.validation` and the best parameters: a `Split`, a tree of arrays, or how many of
        `dataset` are held out of training, a fraction or a number, drawn by `key`. A loss whose key
        has a default is called without one, another with the same key each time. A module is
        evaluated as the loss calls it, in training mode; for anything else write `metrics`.
      metrics: What is evaluated on the examples of `validation` in place of the loss:
        `(params, batch) -> {name: scalar}`, each a mean over the batch, with a `model_state` behind
        where there is one. Here dropout is switched off and running averages are used:
        `model.eval()` of a module of flax nnx is called on a copy.
      evaluate: Called after each epoch as `evaluate(params)`, or `evaluate(params, model_state)` if
        there is a state; returns a dictionary of scalars. See `evaluator`. What that makes, or
        `jax.jit`, is traced before the first step, so that a mistake in it costs no epoch.
      score: Maps that dictionary to the number whose largest value is best; by default its
        `"accuracy"`, else minus its `"loss"`. NaN is worse than any number.
      model_state: The initial state of the model, any tree of arrays, such as running averages. It
        may be empty, as `nnx.split` returns it.
      opt_state: The optimizer's state to begin with, of another call or read from a file; by
        default a fresh one.
      checkpoint: Save the run in a folder while it goes on, and resume it bit for bit where it was
        killed; a path stands for `Checkpoint(path)`, which has the options. What the run is
        recognised by is `key`, `batch_size`, the data, and the shapes of parameters and states:
        the loss and the numbers within the optimizer have to be the same, too. Of data on the
        device every byte is compared, 1 to 2 s a GB at the start; of `Streamed` 256 rows all
        over, of `Batches` the shapes. More epochs than before go on from the last one. What Ctrl-C
        returns is not saved: the run resumes from the last save before it.
      stop: Called after each epoch as `stop(history)`; training ends if it returns True or a text
        that says why. See `patience`. It should be a pure function: a run that resumes asks again.
      accumulate: Micro-batches of equal size that make a batch: the update is that of the whole
        batch, for a loss that is a mean, and the memory that of a micro-batch and one more copy of
        the parameters. A model's state is handed from one to the next, and a key is another one
        for each.
      steps_per_call: Steps in one dispatch; by default 1 on CPU, where a loop around the step was
        measured to be slower, and 50 elsewhere, where every dispatch costs.
      shard: How parameters and the optimizer's state are cut up over devices, of `fsdp` or
        `by_path`, which know the mesh.
      mesh: Devices over which each batch is split along the mesh's first axis; parameters and data
        are replicated. Its axes may be of any type: the loss is compiled with `Auto` ones.
      on_event: Called as `on_event(event)` with an `Event` for each epoch and what else happens, in
        the first process alone. What it raises ends the run. See `csv_log`.
      probes: What is measured as training goes on, by name: each a `Probe(init, measure)`, such as
        `curvature.sharpness_probe` and `landscape.record_trajectory` make. `measure` is handed a
        `Snapshot` of the model, of the kind that came in, and of the optimizer's state, in arrays
        of its own (one more copy of both meanwhile); it is not compiled. What it measures stays on
        the device until the epoch ends, then it is in `history.probes`, with the steps before it in
        `history.probe_steps`. A run that resumes measures the same.
      probe_every: Measure before the steps 0, k, 2k, ... of the run, each time with a dispatch that
        ends there, and once more when it is over, unless by Ctrl-C.
      diagnose_every: Diagnose the network on the batch of every so many steps; one to three
        gradients more each time, and a dispatch that ends there.
      progress: Show a line on the terminal, and where there is none write a line an epoch.

    Returns:
      The last and the best model, of the kind that came in, optimizer state, history; `message`
      says how it ended, and at which epoch and step if it stopped before the end.

    Raises:
      TypeError: If no parameter is floating or complex, the optimizer was not called, the data are
        no arrays, a count is no integer, `key` is none, the loss is not real, or it, `evaluate`,
        `score`, `stop` or a probe is or returns what cannot be read as said above.
      ValueError: If a count is out of range, the loss or a metric is not a scalar, a metric is
        called "loss", the arrays' first axes differ, the mesh does not divide the batch,
        `model_state` or `opt_state` does not fit, or what a probe returns changes its form.

    Example:
      >>> import optax
      >>> x = jnp.linspace(-1.0, 1.0, 64)
      >>> loss_fn = lambda w, batch: jnp.mean((w * batch[0] - batch[1]) ** 2)
      >>> result = fit(loss_fn, jnp.array(0.0), optax.sgd(0.5), (x, 3 * x),
      ...              batch_size=16, num_epochs=20, key=jax.random.key(0), progress=False)
      >>> round(float(result.params), 3)
      3.0
    """
    arguments.check_host((params, key, model_state, opt_state))
    arguments.check_functions(
        loss_fn, evaluate, score, has_state=model_state is not None, stop=stop, on_event=on_event,
        metrics=metrics, validates=validation is not None,
    )  # fmt: skip
    require_key("fit", key)
    probes = as_probes(probes)
    held = None
    if validation is not None:
        dataset, held = hold_out(dataset, validation, key)
    looks = validation is not None or (evaluate is not None and is_pure(evaluate))
    if metrics is not None:
        evaluate, held = evaluator_on(dataset, held, metrics), None
    options = as_checkpoint("fit", checkpoint)
    mesh = mesh_of(mesh, shard)
    feed = open_data(dataset, mesh)
    arguments.check_host(feed.data)
    require_optimizer("fit", optimizer)
    require_hash("optimizer", optimizer)
    counts = arguments.check_counts(
        feed.size, mesh,
        batch_size=feed.resolved(batch_size), num_epochs=num_epochs, accumulate=accumulate,
        steps_per_call=steps_per_call, probe_every=probe_every, diagnose_every=diagnose_every,
    )  # fmt: skip
    fingerprint = {} if options is None else fingerprint_of(
        key, counts["batch_size"], feed.size, feed.sample(),
        accumulate=counts["accumulate"], evaluates=evaluate is not None or held is not None,
        probes=probes, probe_every=counts["probe_every"],
    )  # fmt: skip
    init_key, shuffle_key = jax.random.split(key)
    # a module of equinox is callable and a tree of parameters
    if arguments.is_initializer(params):
        parts, fresh = steps.initial_state(init_key, params, optimizer)
    else:
        # A copy, because the steps donate their buffers and the caller's must survive.
        parts = arguments.take_model("fit", params)
        parts = parts._replace(
            trained=jax.tree.map(jnp.array, parts.trained),
            carried=arguments.copy_of_state(parts.carried),
        )
        fresh = steps.initial_opt_state(parts.trained, optimizer)
    if opt_state is not None:
        opt_state = jax.tree.map(jnp.array, arguments.like_state("fit", opt_state, fresh))
    packing = Packing(parts.assembly, has_state=model_state is not None)
    model_state = packing.pack(parts.carried, arguments.copy_of_state(model_state))
    opt_state = fresh if opt_state is None else opt_state
    form = read_form("fit", loss_fn, has_key=None, has_model_state=packing.has_state)
    loss_key = jax.random.fold_in(key, LOSS) if form.takes_key else None
    if evaluate is not None:
        evaluate = packing.evaluated(evaluate)
    if held is not None:
        draws = needs_key(loss_fn, packing.has_state)
        evaluate = validator(
            packing.taken(loss_fn, has_key=None if draws else False), dataset, held, key,
            batch_size=counts["batch_size"] // counts["accumulate"],
            has_model_state=model_state is not None, draws=draws,
        )  # fmt: skip
    loss_fn = packing.taken(loss_fn)
    carry = steps.initial_carry(parts.trained, opt_state, model_state)
    auto, in_context = mesh and with_auto_axes(mesh), not jax.sharding.get_abstract_mesh().empty
    places = auto and lay_out(auto, shard, carry.params, carry.opt_state)
    layout = Layout(auto, counts["batch_size"])
    per_call = counts["steps_per_call"] or (1 if jax.default_backend() == "cpu" else 50)
    source = feed.source(shuffle_key, layout, per_call)
    part_size = layout.batch_size // counts["accumulate"]
    record = arguments.empty_record(
        loss_fn, carry, feed.data, loss_key, part_size, source.num_steps
    )
    carry = carry._replace(record=record)
    arguments.check_host(carry)  # what `init` closes over
    # before it enters a mesh, which nothing that is traced can
    if looks and evaluate is not None:
        name = "metrics" if validation is not None else "evaluate"
        check_evaluation(name, evaluate, score, carry.params, carry.model_state)
    if places is not None:
        carry, loss_key = placed(carry, places.shardings(carry)), replicated(loss_key, auto)
        if mesh is not None and in_context and evaluate is not None:
            evaluate = partial(_on_mesh, mesh, evaluate)
    loop = Loop(
        carry,
        loss_fn,
        optimizer,
        source,
        steps_per_call=per_call,
        diagnose_every=counts["diagnose_every"],
        places=places,
        measurements=Measurements(
            probes, counts["probe_every"], packing.outward, mesh if in_context else None
        ),
        loss_key=loss_key,
        accumulate=counts["accumulate"],
    )
    # the loop's are donated: what is held here would stay on the device for nothing
    del params, parts, fresh, opt_state, model_state, carry, record, feed, source
    saver = None if options is None else Saver(options, "fit", fingerprint)
    progress = progress and jax.process_index() == 0
    with (
        jax.set_mesh(auto) if in_context and auto is not None else nullcontext(),
        nullcontext() if saver is None else saver.opened(),
        watched(lambda: "nothing was saved" if saver is None else saver.described_last()),
    ):
        result = run_epochs(
            loop, counts["num_epochs"], evaluate, score,
            stop=stop, on_event=on_event, saver=saver, progress=progress,
        )  # fmt: skip
    last = packing.outward(result.params, result.model_state)
    best = packing.outward(result.best, result.best_model_state)
    return dataclasses.replace(
        result, params=last[0], model_state=last[1], best=best[0], best_model_state=best[1]
    )


def _on_mesh(mesh: Mesh, evaluate: Evaluate, *args: PyTree) -> Mapping[str, Any]:
    """Evaluate in the context of the user's, where arrays have to be of its kind of axes."""
    with jax.set_mesh(mesh):
        return evaluate(*jax.device_put(args, NamedSharding(mesh, PartitionSpec())))
