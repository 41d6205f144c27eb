"""Examples that are held out are not trained on, and the loss on them chooses the best."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.training import Aux, Batches, Streamed, evaluator, fit

KEY = jax.random.key(0)
X = jnp.arange(20.0)
FLOAT32_EPS = float(np.finfo(np.float32).eps)


def run(loss_fn, dataset=X, params=1.0, **options):
    options = {"batch_size": 2, "num_epochs": 2, "key": KEY, "progress": False, **options}
    return fit(loss_fn, params, SGD, dataset, **options)


SGD = optax.sgd(0.001)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(1, 1, rngs=rngs), nnx.BatchNorm(1, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.norm(x))


def seen(w, batch):
    """Note the examples as digits of a number: each of the twenty is a power of two."""
    return w * jnp.mean(batch), {"examples": jnp.sum(2.0**batch)}


def of_tree(w, batch):
    return seen(w, batch["a"])


@pytest.mark.parametrize(
    ("validation", "count"),
    [(0.25, 5), (0.1, 2), (np.float32(0.25), 5), (5, 5), (np.int64(4), 4), (1, 1), (18, 18)],
)
@pytest.mark.parametrize("kind", ["numpy", "jax", "a tree"])
def test_a_fraction_or_a_number_is_held_out(validation, count, kind):
    data = {"numpy": np.asarray(X), "jax": X, "a tree": {"a": X}}[kind]
    total = 2**20 - 1
    result = run(of_tree if kind == "a tree" else seen, data, validation=validation, batch_size=1)
    trained = result.history.steps["examples"][: 20 - count].sum()
    # the mean over the examples of the sum a batch, of one each
    held = result.history.validation["examples"][0] * count
    assert round(trained) + round(held) == total
    assert bin(round(held)).count("1") == count
    assert set(result.history.validation) == {"loss", "examples"}


def test_the_same_key_holds_the_same_examples_out():
    held = [
        run(seen, validation=5, batch_size=1, key=jax.random.key(seed)).history.validation
        for seed in (1, 1, 2)
    ]
    assert held[0]["examples"][0] == held[1]["examples"][0] != held[2]["examples"][0]


def test_the_loss_of_given_examples_chooses_the_best():
    """The data pull up, the examples that are held out down."""
    loss_fn = lambda w, batch: jnp.mean((w - batch) ** 2)
    held = jnp.array([1.0, 1.5, 2.0])
    result = run(loss_fn, params=0.0, validation=held, num_epochs=6, batch_size=20)
    losses = result.history.validation["loss"]
    by_hand = evaluator(lambda w, batch: {"loss": loss_fn(w, batch)}, held)
    again = run(loss_fn, params=0.0, evaluate=by_hand, num_epochs=6, batch_size=20)
    np.testing.assert_allclose(losses, again.history.validation["loss"], rtol=4 * FLOAT32_EPS)
    assert result.best_epoch == 1 + np.argmin(losses) == again.best_epoch
    assert result.best_score == -losses.min()


def test_a_split_of_bytes_is_normalised_as_the_data_are():
    rng = np.random.default_rng(0)
    split = lambda n: Split(rng.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype="i4"))
    data = Dataset(split(6), split(4), 0.5, 0.25)
    loss_fn = lambda w, batch: w * jnp.mean(batch.images) ** 2
    for validation, images in ((data.test, data.test.images), (2, None)):
        result = run(loss_fn, data, validation=validation, num_epochs=1, batch_size=1)
        loss = result.history.validation["loss"][0] / float(result.params)
        if images is not None:
            means = ((images / 255.0 - 0.5) / 0.25).mean(axis=(1, 2))
            # a mean of 784 numbers around one, squared
            np.testing.assert_allclose(loss, np.mean(means**2), rtol=1e-4)
        else:
            assert result.history.steps["loss"].shape == (4,)


def data_of_images(shape=(28, 28)):
    rng = np.random.default_rng(0)
    split = lambda n: Split(rng.integers(0, 256, (n, *shape), np.uint8), np.arange(n, dtype="i4"))
    return Dataset(split(6), split(4), 0.5, 0.25)


RAW = {
    "bytes": lambda data: (data.test.images, data.test.labels),
    "bytes on the device": lambda data: {"images": jnp.asarray(data.test.images)},
    "rows of bytes": lambda data: (data.test.images.reshape(4, -1), data.test.labels),
    "integers": lambda data: (data.test.images.astype(np.int32), data.test.labels),
    "a batch": lambda data: data.batch(4, "test"),
    "a split of grey values": lambda data: Split(data.test.images / 255.0, data.test.labels),
}


@pytest.mark.parametrize("has_metrics", [False, True], ids=["loss", "metrics"])
@pytest.mark.parametrize("name", RAW)
def test_beside_a_dataset_images_of_another_scale_are_refused(name, has_metrics):
    data, steps = data_of_images(), []
    loss_fn = lambda w, batch: w * jnp.mean(jax.tree.leaves(batch)[0])
    metrics = (lambda w, batch: {"loss": loss_fn(w, batch)}) if has_metrics else None
    with pytest.raises(TypeError, match=r"^fit needs .* as validation beside .*: hand over datas"):
        run(loss_fn, data, validation=RAW[name](data), metrics=metrics, on_event=steps.append)
    assert steps == []


def test_beside_a_dataset_normalised_arrays_are_taken_as_they_are():
    data = data_of_images((4, 4))
    loss_fn = lambda w, batch: w * jnp.mean(batch[0]) ** 2
    labels = np.eye(6, dtype=np.int32)[data.test.labels]  # integers, but not of so many pixels
    losses = [
        run(loss_fn, data, validation=held, num_epochs=1).history.validation["loss"][0]
        for held in (data.test, (data.batch(4, "test").images, labels))
    ]
    np.testing.assert_allclose(*losses, rtol=8 * FLOAT32_EPS)


DRAWING = {
    "a key": lambda w, batch, key: w * jnp.mean(batch) * 0 + jax.random.uniform(key),
    "a key or none": lambda w, batch, key=None: (
        w * jnp.mean(batch) * 0 + (2.0 if key is None else jax.random.uniform(key))
    ),
}


@pytest.mark.parametrize("name", DRAWING)
def test_a_loss_that_draws_draws_the_same_or_nothing(name):
    losses = run(DRAWING[name], validation=4, num_epochs=3).history.validation["loss"]
    assert len(set(losses)) == 1
    assert (losses[0] == 2) == (name == "a key or none")


def test_states_and_modules_are_evaluated_and_left():
    def with_state(w, batch, model_state):
        return w * jnp.mean(batch), Aux({"count": model_state["n"]}, {"n": model_state["n"] + 1.0})

    result = run(with_state, validation=4, model_state={"n": jnp.float32(0)}, batch_size=16)
    assert result.history.validation["count"].tolist() == [1, 2]
    assert result.model_state["n"] == 2

    loss_fn = lambda model, batch: jnp.mean((model(batch[:, None]) - 1) ** 2)
    one = run(loss_fn, params=Net(nnx.Rngs(0)), validation=X[:4] + 100, num_epochs=1)
    other = run(loss_fn, params=Net(nnx.Rngs(0)), num_epochs=1)
    assert jnp.array_equal(one.params.norm.mean[...], other.params.norm.mean[...])
    assert len(one.history.validation["loss"]) == 1


def test_metrics_look_at_the_held_out_examples_in_evaluation():
    def metrics(model, batch):
        model.eval()
        return {"loss": jnp.mean((model(batch[:, None]) - 1) ** 2), "examples": batch.sum()}

    loss_fn = lambda model, batch: jnp.mean((model(batch[:, None]) - 1) ** 2)
    held = X[:4] + 100
    result = run(loss_fn, params=Net(nnx.Rngs(0)), validation=held, metrics=metrics, num_epochs=2)
    last = metrics(nnx.clone(result.params), held)
    assert result.history.validation["loss"][-1] == pytest.approx(float(last["loss"]), rel=1e-5)
    assert result.history.validation["examples"][-1] == pytest.approx(float(held.sum()), rel=1e-5)
    assert not result.params.norm.use_running_average  # what `eval` does to a copy leaves no trace


def test_metrics_want_examples_to_look_at():
    with pytest.raises(ValueError, match=r"^fit needs validation= for metrics, got None\.$"):
        run(seen, metrics=lambda *_: {"loss": 1.0})
    with pytest.raises(
        TypeError, match=r"^fit calls metrics\(params, batch\), got one of \(params\)"
    ):
        run(seen, validation=4, metrics=lambda params: {"loss": params})


UNFIT = {
    "no default to choose by": (
        {"metrics": lambda w, x: {"err": jnp.mean(w * x), "far": jnp.max(x)}},
        ValueError,
        r"^fit needs score= .* unless metrics returns 'accuracy' or 'loss', got metrics that "
        r"returns \['err', 'far'\]: write score=lambda m: -m\['err'\]",
    ),
    "no scalar": (
        {"metrics": lambda w, x: {"loss": w * x}}, TypeError, "^fit needs real scalar metrics",
    ),
    "no dictionary": (
        {"metrics": lambda w, x: jnp.mean(w * x)},
        TypeError, r"^fit needs metrics to return a dict",
    ),
    "an error of its own": (
        {"metrics": lambda w, x: {"loss": w * x @ jnp.ones(7)}}, TypeError, "dot_general",
    ),
    "a dictionary of functions": (
        {"metrics": {"err": lambda w, x: jnp.mean(w * x)}},
        TypeError, r"^fit needs a function as metrics, got dict: write lambda params, batch: \{",
    ),
    # Python's own error for a dictionary: since 3.12 slices can be keys
    "other examples": ({"validation": {"a": X[:4]}}, (TypeError, KeyError), "slice"),
    "no examples": ({"validation": X[:0]}, ValueError, "^fit needs at least one example of vali"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_what_evaluation_cannot_do_is_said_before_the_first_step(name):
    options, error, sentence = UNFIT[name]
    events = []
    loss_fn = lambda w, batch: w * jnp.mean(batch[:2])
    with pytest.raises(error, match=sentence):
        run(loss_fn, **{"validation": X[:4], "on_event": events.append, **options})
    assert events == []


def test_a_score_chooses_by_any_metric():
    metrics = lambda w, x: {"err": jnp.mean(w * x)}
    result = run(seen, validation=4, metrics=metrics, score=lambda m: -m["err"])
    assert result.best_score == -result.history.validation["err"].min()


def test_streamed_data_are_validated_on_arrays():
    loss_fn = lambda w, batch: w * jnp.mean(batch)
    result = run(loss_fn, Streamed(np.asarray(X)), validation=X[:4], num_epochs=1)
    assert result.history.validation["loss"].shape == (1,)


def test_a_program_is_found_again():
    traced = []

    def loss_fn(w, batch):
        traced.append(1)
        return w * jnp.mean(batch)

    run(loss_fn, validation=4)
    size = len(traced)
    run(loss_fn, validation=4, key=jax.random.key(5))
    assert len(traced) == size


REFUSED = {
    "nothing": (0, ValueError, "to train on and one to hold out, of 20, got validation=0."),
    "all": (20, ValueError, "of 20, got validation=20."),
    "less than nothing": (-3, ValueError, "got validation=-3."),
    "a fraction of nothing": (0.01, ValueError, "of 20, got validation=0.01."),
    "no fraction": (1.5, ValueError, "a fraction 0 < validation < 1, got validation=1.5."),
    "zero": (0.0, ValueError, "fraction 0 < validation < 1, got validation=0.0."),
    "not a number": (float("nan"), ValueError, "fraction 0 < validation < 1, got validation=nan."),
    "true": (True, TypeError, "fit needs an integer validation, got validation=True."),
    "a name": ("test", TypeError, "or a number as validation, got str: hand over a part of a Dat"),
    "a stream": (Streamed(np.ones(3)), TypeError, "as validation, got Streamed: hand over"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_held_out_is_refused(name):
    validation, error, sentence = REFUSED[name]
    with pytest.raises(error, match=re.escape(sentence)):
        run(seen, validation=validation)


def test_two_ways_to_evaluate_are_refused():
    with pytest.raises(ValueError, match=r"^fit needs validation= or evaluate=, got both\.$"):
        run(seen, validation=4, evaluate=lambda _: {"loss": 1.0})


@pytest.mark.parametrize("kind", [Streamed, lambda x: Batches(lambda: iter([x]), 1)])
def test_of_data_elsewhere_nothing_is_held_out(kind):
    with pytest.raises(TypeError, match=r"^fit needs the examples of validation= themselves for"):
        run(seen, kind(np.asarray(X)), validation=0.5)
