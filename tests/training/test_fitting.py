"""`fit` is the plain training loop: same numbers, same bits for the same key, nothing lost."""

import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_tut import optimizers
from jaxopt_tut.datasets import Dataset, Split, normalize
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Aux, evaluator, fit
from jaxopt_tut.training.data import epoch_order
from jaxopt_tut.training.steps import run_steps

FLOAT32_EPS = float(np.finfo(np.float32).eps)


def line_data(num_examples=48, slope=3.0):
    x = jnp.linspace(-1.0, 1.0, num_examples)
    return x, slope * x


def squared_error(w, batch):
    x, y = batch
    return jnp.mean((w * x - y) ** 2)


def squared_error_with_metrics(w, batch):
    loss = squared_error(w, batch)
    return loss, {"root": jnp.sqrt(loss)}


def run(loss_fn=squared_error, params=0.0, optimizer=None, data=None, **options):
    options = {"batch_size": 8, "num_epochs": 3, "key": jax.random.key(0), **options}
    params = params if callable(params) or not isinstance(params, float) else jnp.array(params)
    optimizer = optimizers.sgd(0.3) if optimizer is None else optimizer
    return fit(loss_fn, params, optimizer, line_data() if data is None else data, **options)


def random_images(num_images=96):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, 28, 28), np.uint8)
    split = Split(images, rng.integers(0, 10, num_images).astype(np.int32))
    return Dataset(split, split, 0.5, 0.29)


def cross_entropy(params, batch):
    logits = mlp.apply(params, batch.images)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels))


def small_network(key):
    return mlp.init(key, (784, 16, 10))


@pytest.mark.slow
def test_equals_the_plain_loop_on_images():
    dataset, key, optimizer = random_images(), jax.random.key(3), optimizers.adam(1e-2)
    result = fit(
        cross_entropy, small_network, optimizer, dataset,
        batch_size=32, num_epochs=2, key=key, progress=False,
    )  # fmt: skip
    init_key, shuffle_key = jax.random.split(key)
    params = small_network(init_key)
    state = optimizer.init(params)
    losses = []
    for epoch in range(2):
        order = jax.random.permutation(jax.random.fold_in(shuffle_key, epoch), 96)
        for index in order.reshape(3, 32):
            images = normalize(jnp.asarray(dataset.train.images)[index], 0.5, 0.29)
            batch = Split(images, jnp.asarray(dataset.train.labels)[index])
            loss, grads = jax.value_and_grad(cross_entropy)(params, batch)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            losses.append(loss)
    # Six steps of products over 784 terms, fused differently: rounding only.
    np.testing.assert_allclose(result.history.steps["loss"], losses, rtol=784 * FLOAT32_EPS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=784 * FLOAT32_EPS), result.params, params
    )


def test_same_key_same_bits_and_another_key_other_bits():
    first, again, other = (run(key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.history.steps["loss"], again.history.steps["loss"])
    assert (first.history.steps["loss"] != other.history.steps["loss"]).any()


@pytest.mark.parametrize("steps_per_call", [2, 5, 100])
def test_steps_per_call_changes_nothing(steps_per_call):
    one, many = run(steps_per_call=1), run(steps_per_call=steps_per_call)
    # The same operations, compiled inside a loop: a few roundings a step, 18 steps.
    np.testing.assert_allclose(
        many.history.steps["loss"], one.history.steps["loss"], rtol=1e-4, atol=18 * FLOAT32_EPS
    )
    assert many.history.steps["loss"].shape == (18,)


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_a_diagnosis_every_so_many_steps_changes_nothing_else(steps_per_call):
    dataset, key, optimizer = random_images(), jax.random.key(3), optimizers.adam(1e-2)

    def train(**options):
        return fit(
            cross_entropy, small_network, optimizer, dataset, batch_size=32, num_epochs=3,
            key=key, progress=False, steps_per_call=steps_per_call, **options,
        )  # fmt: skip

    plain, diagnosed = train(), train(diagnose_every=4)
    # 3 epochs of 3 steps; the loop may be cut elsewhere, which rounds the same steps otherwise
    losses = diagnosed.history.steps["loss"]
    np.testing.assert_allclose(losses, plain.history.steps["loss"], rtol=784 * FLOAT32_EPS)
    assert list(diagnosed.history.diagnoses) == [0, 4, 8]
    for step, diagnosis in diagnosed.history.diagnoses.items():
        assert list(diagnosis.layers) == ["0/kernel", "1/kernel"]
        # the loss of that very step, before its update
        np.testing.assert_allclose(diagnosis.statistics.loss, losses[step], rtol=784 * FLOAT32_EPS)
    assert plain.history.diagnoses == {}


def test_every_epoch_visits_every_example_once_in_a_new_order():
    orders = [np.asarray(epoch_order(jax.random.key(0), e, 10, 3)) for e in range(3)]
    for order in orders:
        assert order.shape == (3, 3)
        assert len(set(order.ravel())) == 9
    assert not np.array_equal(orders[0], orders[1])


def test_the_callers_parameters_survive_donation():
    params = {"w": jnp.array(0.5)}
    run(lambda p, batch: squared_error(p["w"], batch), params)
    assert float(params["w"]) == 0.5


def test_metrics_are_recorded_per_step_and_averaged_per_epoch():
    history = run(squared_error_with_metrics).history
    np.testing.assert_allclose(
        history.steps["root"], np.sqrt(history.steps["loss"]), rtol=4 * FLOAT32_EPS
    )
    np.testing.assert_allclose(
        history.train["root"], history.steps["root"].reshape(3, 6).mean(1), rtol=4 * FLOAT32_EPS
    )


def test_the_best_validation_parameters_are_kept():
    scores = iter([0.1, 0.9, 0.9, 0.3])
    seen = []

    def evaluate(params):
        seen.append(float(params))
        return {"accuracy": next(scores)}

    result = run(num_epochs=4, evaluate=evaluate)
    assert result.best_epoch == 2  # the first of equals
    assert result.best_score == 0.9
    assert float(result.best) == seen[1]
    assert float(result.params) == seen[3]
    assert result.history.validation["accuracy"].tolist() == [0.1, 0.9, 0.9, 0.3]


def test_a_loss_is_scored_by_its_negative_and_a_score_can_be_given():
    values = iter([3.0, 1.0, 2.0])
    assert run(evaluate=lambda params: {"loss": next(values)}).best_epoch == 2  # noqa: ARG005
    values = iter([3.0, 1.0, 2.0])
    result = run(
        evaluate=lambda params: {"loss": next(values)},  # noqa: ARG005
        score=lambda metrics: metrics["loss"],
    )
    assert (result.best_epoch, result.best_score) == (1, 3.0)


def test_a_score_that_is_not_a_number_is_worse_than_any():
    values = iter([math.nan, 0.5, 0.25])
    result = run(evaluate=lambda params: {"loss": next(values)})  # noqa: ARG005
    assert (result.best_epoch, result.best_score) == (3, -0.25)


def test_a_module_that_is_callable_is_parameters():
    module = eqx.nn.Linear("scalar", "scalar", key=jax.random.key(0))

    def loss_fn(module, batch):
        return jnp.mean((jax.vmap(module)(batch[0]) - batch[1]) ** 2)

    x = jnp.linspace(-1, 1, 48)
    data = (x, 3 * x + 1)
    trained = run(loss_fn=loss_fn, params=module, data=data, num_epochs=50).params
    np.testing.assert_allclose([trained.weight[0, 0], trained.bias[0]], [3, 1], rtol=1e-4)


def test_complex_parameters_descend():
    target = 1 + 2j
    loss_fn = lambda w, batch: jnp.mean(batch[0] * jnp.abs(w - target) ** 2)
    data = (jnp.ones(48), jnp.ones(48))
    result = run(loss_fn=loss_fn, params=jnp.asarray(0j), data=data, num_epochs=10)
    np.testing.assert_allclose(result.params, target, rtol=1e-5)


def test_without_evaluation_best_are_the_last_parameters():
    result = run()
    np.testing.assert_array_equal(result.best, result.params)
    assert result.best_epoch == 3
    assert math.isnan(result.best_score)


def test_stops_at_a_non_finite_loss_and_returns_what_it_has():
    result = run(optimizer=optimizers.sgd(1e9), num_epochs=9, evaluate=lambda w: {"loss": float(w)})
    assert not result.finite
    losses = result.history.steps["loss"]
    assert np.isfinite(losses[:-1]).all()
    assert not np.isfinite(losses[-1])
    epoch, step = divmod(losses.size - 1, 6)
    assert result.message == (
        f"Stopped at a non-finite loss in epoch {epoch + 1}, step {step + 1}; "
        f"the last finite loss was {losses[-2]:.6g}."
    )
    assert len(result.history.train["loss"]) == epoch + 1


def test_nothing_is_updated_from_a_non_finite_loss_on():
    x = jnp.ones(8)
    data = (x, x.at[5].set(jnp.nan))  # one bad example: some batch of each epoch is poisoned
    result = run(data=data, batch_size=2, num_epochs=2)
    good = result.history.steps["loss"].size - 1
    assert np.isfinite(result.params)
    assert not result.finite
    expected = 1 - (1 - 0.6) ** good  # w <- w - 0.3 * 2 (w - 1)
    np.testing.assert_allclose(result.params, expected, rtol=8 * FLOAT32_EPS)


def test_zero_epochs_return_the_initial_parameters():
    result = run(params=lambda key: jax.random.normal(key), num_epochs=0)
    expected = jax.random.normal(jax.random.split(jax.random.key(0))[0])
    np.testing.assert_array_equal(result.params, expected)
    np.testing.assert_array_equal(result.best, expected)
    assert result.best_epoch == 0
    assert result.history.steps["loss"].shape == (0,)


def test_trains_a_network_with_batchnorm_state():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(1, momentum=0.5, rngs=rngs)
            self.linear = nnx.Linear(1, 1, rngs=rngs)

    graph, weights, averages = nnx.split(Network(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)

    def loss_fn(weights, batch, averages):
        model = nnx.merge(graph, weights, averages, copy=True)
        loss = jnp.mean((model.linear(model.norm(batch[0])) - batch[1]) ** 2)
        return loss, Aux(model_state=nnx.state(model, nnx.BatchStat))

    x = 5 + jax.random.normal(jax.random.key(1), (64, 1))
    seen = []

    def evaluate(_, averages):
        seen.append(float(averages["norm"]["mean"][...][0]))
        return {"loss": 0.0}

    result = fit(
        loss_fn, weights, optimizers.adam(0.1), (x, 2 * x), model_state=averages,
        batch_size=16, num_epochs=3, key=jax.random.key(0), evaluate=evaluate, progress=False,
    )  # fmt: skip
    # Twelve averages with momentum 1/2 of batch means about 5: what is left of the start is 2^-12.
    assert result.model_state["norm"]["mean"][...][0] == pytest.approx(5, abs=0.6)
    assert float(averages["norm"]["mean"][...][0]) == 0.0
    assert result.history.steps["loss"][-1] < result.history.steps["loss"][0]
    assert float(result.best_model_state["norm"]["mean"][...][0]) == seen[0]


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.momentum(0.3),
        optimizers.adam(0.1),
        optax.adamw(0.1),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.3)),
        optax.contrib.schedule_free_sgd(0.3),
        optax.inject_hyperparams(optimizers.sgd)(learning_rate=0.3),
    ],
    ids=["momentum", "adam", "adamw", "clipped", "schedule_free", "injected"],
)
def test_any_optax_optimizer_trains(optimizer):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        losses = run(optimizer=optimizer, num_epochs=10).history.train["loss"]
    assert losses[-1] < 0.2 * losses[0]


def test_one_compile_per_shape():
    optimizer = optimizers.sgd(0.25)
    run(optimizer=optimizer)
    size = run_steps._cache_size()
    run(optimizer=optimizer, params=1.0, key=jax.random.key(7), num_epochs=5)
    assert run_steps._cache_size() == size


def test_trees_with_none_and_empty_leaves():
    params = {"w": jnp.array(0.0), "none": None, "empty": jnp.zeros((0, 3))}
    result = run(lambda p, batch: squared_error(p["w"], batch), params, optimizers.adam(0.1))
    assert result.params["none"] is None
    assert result.params["empty"].shape == (0, 3)


def test_a_result_is_a_pytree():
    result = run()
    assert jax.tree.map(lambda leaf: leaf, result).message == "Finished 3 epochs."


def test_a_line_an_epoch_where_there_is_no_terminal(capfd):
    run(progress=True, num_epochs=3)
    first, _, last = capfd.readouterr().err.splitlines()
    assert first.startswith("epoch 1/3  loss ")
    assert last.startswith("epoch 3/3  loss ")
    assert last.endswith("  0 s left")
    run(progress=False)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 49}, ValueError, "number of examples (48), got batch_size=49."),
        ({"batch_size": 0}, ValueError, "fit needs 1 <= batch_size"),
        ({"num_epochs": -1}, ValueError, "fit needs num_epochs >= 0, got num_epochs=-1."),
        ({"steps_per_call": 0}, ValueError, "fit needs steps_per_call >= 1, got steps_per_call=0."),
        ({"diagnose_every": 0}, ValueError, "fit needs diagnose_every >= 1, got diagnose_every=0."),
        ({"params": jnp.array(3)}, TypeError, "needs floating or complex parameters, got int32"),
        ({"data": (jnp.ones(3), jnp.ones(4))}, ValueError, "common first axis, got (3,) at '0'"),
        ({"data": (jnp.ones(3), jnp.ones(()))}, ValueError, "and () at '1'."),
        ({"data": ()}, ValueError, "fit needs a dataset with at least one array, got none."),
        ({"loss_fn": lambda w, b: w * b[0]}, ValueError, "needs a scalar loss, got shape (8,)."),
        (
            {"loss_fn": lambda w, b: (jnp.sum(w * b[0]), {"worst": b[0]})},
            ValueError,
            "fit needs a scalar worst, got shape (8,).",
        ),
        (
            {"loss_fn": lambda w, b: (jnp.sum(w * b[0]), {"loss": 0.0})},
            ValueError,
            "fit needs metrics by other names than 'loss'",
        ),
        (
            {"evaluate": lambda w: {"error": 1.0}},  # noqa: ARG005
            ValueError,
            "fit needs score= unless evaluate returns 'accuracy' or 'loss', got the metrics",
        ),
    ],
    ids=[
        "batch_too_large", "batch_zero", "negative_epochs", "no_steps", "never_diagnosed",
        "integer_params", "first_axes_differ", "scalar_data", "no_data",
        "vector_loss", "vector_metric", "metric_called_loss", "no_score",
    ],
)  # fmt: skip
def test_bad_input(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        run(**options)


def test_evaluator_agrees_with_fit_on_the_last_partial_batch():
    x, y = line_data(10)
    evaluate = evaluator(lambda w, batch: {"loss": squared_error(w, batch)}, (x, y), batch_size=4)
    w = jnp.array(1.0)
    expected = float(squared_error(w, (x, y)))
    assert evaluate(w)["loss"] == pytest.approx(expected, rel=10 * FLOAT32_EPS)
