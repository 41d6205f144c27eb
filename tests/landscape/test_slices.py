"""Slices are the loss along lines and on planes, of any model, in one program."""

import contextlib
import logging
import re

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_tut import datasets
from jaxopt_tut.landscape import random_directions, reestimate_statistics, slice_1d, slice_2d
from jaxopt_tut.training import Aux

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(1.0, 2.0, (12, 3)).astype(np.float32)
COORDS = np.linspace(-1.0, 2.0, 7).astype(np.float32)
CENTRE = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[0.5]])}
ALONG = {"a": jnp.array([0.5, 1.0]), "b": jnp.array([[-2.0]])}
ACROSS = {"a": jnp.array([1.0, 0.0]), "b": jnp.array([[1.0]])}
# sums of a few squares, each rounded a few times
RTOL = 10 * float(np.finfo(np.float32).eps)


@contextlib.contextmanager
def compiles_nothing():
    """Fail if anything is compiled in here."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("jax._src.interpreters.pxla")
    logger.addHandler(handler)
    with jax.log_compiles():
        propagate, logger.propagate = logger.propagate, False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagate
    assert not [text for text in records if text.startswith("Compiling")]


def bowl(w, _):
    return jnp.sum(w["a"] ** 2) + 3 * jnp.sum(w["b"] ** 2)


def regression(w, batch):
    residual = batch @ jnp.concatenate([w["a"], w["b"][0]])
    return jnp.mean(residual**2), {"mean": jnp.mean(residual), "count": 1}


def flat(tree):
    return np.concatenate([np.asarray(tree["a"]), np.asarray(tree["b"])[0]]).astype(np.float64)


@pytest.mark.parametrize("points_at_once", [None, 1, 2, 7, 50])
def test_a_line_through_a_quadratic_is_a_parabola(points_at_once):
    found = slice_1d(bowl, CENTRE, ALONG, coords=COORDS, points_at_once=points_at_once)
    # f(0) = 5.75, f'(0) = 2 (.5 - 2) + 6 (-1) = -9, f''/2 = 1.25 + 12
    np.testing.assert_allclose(
        found.loss, 5.75 - 9 * COORDS + 13.25 * COORDS**2, rtol=RTOL, atol=40 * RTOL
    )
    np.testing.assert_array_equal(found.coords[0], COORDS)
    assert found.metrics == {}
    assert found.statistics is None


def test_losses_of_the_parameters_alone_need_no_batch():
    alone = lambda w: bowl(w, None)
    line = [slice_1d(fn, CENTRE, ALONG, coords=COORDS).loss for fn in (alone, bowl)]
    np.testing.assert_array_equal(*line)
    plane = [slice_2d(fn, CENTRE, [ALONG, ACROSS], coords=COORDS).loss for fn in (alone, bowl)]
    np.testing.assert_array_equal(*plane)
    with pytest.raises(TypeError, match=r"slice_1d calls loss_fn\(params, batch\), got a loss of"):
        slice_1d(alone, CENTRE, ALONG, X, coords=COORDS)


def test_a_model_whose_loss_holds_its_data_is_re_estimated():
    model = Normed(nnx.Rngs(0))
    (direction,) = random_directions(KEY, model, 1)
    alone = lambda model: deviation(model, X)
    held = slice_1d(alone, model, direction, coords=COORDS)
    assert held.statistics == "reestimated"
    handed = slice_1d(deviation, model, direction, X, coords=COORDS)
    np.testing.assert_allclose(held.loss, handed.loss, rtol=10 * RTOL)
    # with the same draws of its dropout
    call = lambda loss_fn, *batches, **options: slice_1d(
        loss_fn, model, direction, *batches, coords=COORDS, statistics="batch", **options
    )
    expected = call(deviation, X).loss
    for options in ({}, {"training_loss": alone}):
        np.testing.assert_allclose(call(alone, **options).loss, expected, rtol=10 * RTOL)
    own, other = reestimate_statistics(alone, model), reestimate_statistics(deviation, model, X)
    np.testing.assert_allclose(own.norm.mean[...], other.norm.mean[...], rtol=10 * RTOL, atol=RTOL)


def test_one_array_of_coords_serves_both_axes():
    both = slice_2d(bowl, CENTRE, [ALONG, ACROSS], coords=(COORDS, COORDS))
    once = slice_2d(bowl, CENTRE, [ALONG, ACROSS], coords=COORDS)
    np.testing.assert_array_equal(once.loss, both.loss)
    assert len(once.coords) == 2


def test_a_plane_has_the_first_direction_along_its_first_axis():
    ys = [0.0, 1.0]
    found = slice_2d(regression, CENTRE, (ALONG, ACROSS), X, coords=(COORDS, ys))
    points = flat(CENTRE) + np.multiply.outer(COORDS.astype(float), flat(ALONG))[:, None]
    points = points + np.multiply.outer(np.array(ys), flat(ACROSS))
    residual = np.einsum("nd,ijd->ijn", X.astype(np.float64), points)
    np.testing.assert_allclose(found.loss, (residual**2).mean(-1), rtol=10 * RTOL)
    np.testing.assert_allclose(
        found.metrics["mean"], residual.mean(-1), rtol=10 * RTOL, atol=100 * RTOL
    )
    np.testing.assert_array_equal(found.metrics["count"], np.ones((7, 2)))


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)
        coords = np.linspace(-1, 2, 7)
        found = slice_1d(regression, wide(CENTRE), wide(ALONG), X.astype(float), coords=coords)
        points = flat(CENTRE) + np.multiply.outer(coords, flat(ALONG))
        expected = ((X.astype(float) @ points.T) ** 2).mean(0)
        np.testing.assert_allclose(found.loss, expected, rtol=1e-14)


def host_batches():
    class Batches:
        def __iter__(self):
            return iter([X[:5], X[5:]])

    return (Batches(),)


FORMS = {
    "chunks": ((X,), {"batch_size": 5}),
    "batches": ((X[:3], X[3:10], X[10:]), {}),
    "from the host": (host_batches(), {}),
}


@pytest.mark.parametrize(("batches", "options"), FORMS.values(), ids=FORMS)
def test_batches_weigh_as_many_examples_as_they_have(batches, options):
    whole = slice_1d(regression, CENTRE, ALONG, X, coords=COORDS)
    parted = slice_1d(regression, CENTRE, ALONG, *batches, coords=COORDS, **options)
    np.testing.assert_allclose(parted.loss, whole.loss, rtol=10 * RTOL)
    np.testing.assert_allclose(parted.metrics["mean"], whole.metrics["mean"], atol=100 * RTOL)


def test_images_of_a_dataset_come_normalised():
    data = datasets.load_fashion_mnist_mini()
    few = data._replace(train=jax.tree.map(lambda leaf: leaf[:20], data.train))
    found = slice_1d(
        lambda w, batch: jnp.mean((w * batch.images) ** 2), 1.0, 1.0, few, coords=[0, 1]
    )
    images = (np.asarray(few.train.images) / 255 - few.mean) / few.std
    np.testing.assert_allclose(
        found.loss, np.array([1, 4]) * np.mean(images**2), rtol=1e-5
    )  # images are normalised in single precision, 16 000 squares are summed in it


def test_compiled_traced_and_vectorised_as_called_one_by_one():
    call = lambda centre, direction, coords, x: slice_1d(
        regression, centre, direction, x, coords=coords, batch_size=5, points_at_once=3
    )
    one = call(CENTRE, ALONG, COORDS, X)
    jitted = jax.jit(call)(CENTRE, ALONG, COORDS, X)
    np.testing.assert_allclose(jitted.loss, one.loss, rtol=10 * RTOL)
    np.testing.assert_allclose(jitted.metrics["mean"], one.metrics["mean"], atol=100 * RTOL)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), ALONG, ACROSS)
    found = jax.vmap(lambda direction: call(CENTRE, direction, COORDS, X).loss)(both)
    np.testing.assert_allclose(found[0], one.loss, rtol=10 * RTOL)
    np.testing.assert_allclose(found[1], call(CENTRE, ACROSS, COORDS, X).loss, rtol=10 * RTOL)


def test_derivatives_are_those_of_the_loss():
    slope = jax.grad(lambda t: slice_1d(bowl, CENTRE, ALONG, coords=t[None]).loss[0])
    np.testing.assert_allclose(slope(jnp.array(0.0)), -9.0, rtol=RTOL)
    by_centre = jax.grad(lambda c: slice_1d(bowl, c, ALONG, coords=[1.0]).loss[0])(CENTRE)
    np.testing.assert_allclose(by_centre["a"], [3.0, -2.0], rtol=RTOL)


def test_other_centres_directions_coordinates_and_data_compile_nothing():
    with_norm = lambda seed: Normed(nnx.Rngs(seed))
    call = lambda seed, x: slice_2d(
        deviation,
        with_norm(seed),
        random_directions(jax.random.key(seed), with_norm(seed), 2),
        x,
        coords=(COORDS + seed, COORDS[:3]),
        batch_size=4,
    )
    first = call(0, X)
    prepared = random_directions(jax.random.key(1), with_norm(1), 2), with_norm(1)
    with compiles_nothing():
        second = slice_2d(
            deviation, prepared[1], prepared[0], X + 1, coords=(COORDS, COORDS[:3]), batch_size=4
        )
    assert not np.any(first.loss == second.loss)


def test_losses_that_draw_do_so_alike_at_every_point():
    noisy = lambda w, x, key: w * jnp.mean(x) + jax.random.normal(key)
    found = slice_1d(noisy, 0.0, 1.0, X, coords=[0.0, 1.0, 2.0], key=KEY).loss
    np.testing.assert_allclose(np.diff(found), X.mean(), rtol=100 * RTOL)
    other = slice_1d(noisy, 0.0, 1.0, X, coords=[0.0], key=jax.random.key(1)).loss
    assert other[0] != found[0]


def test_directions_may_be_flat_vectors_or_models_and_trees_may_hold_none():
    vector = jnp.concatenate([ALONG["a"], ALONG["b"][0]])
    np.testing.assert_array_equal(
        slice_1d(bowl, CENTRE, vector, coords=COORDS).loss,
        slice_1d(bowl, CENTRE, ALONG, coords=COORDS).loss,
    )
    holed = {"w": jnp.ones(2), "none": None, "empty": jnp.zeros((0, 3))}
    found = slice_1d(lambda p, _: jnp.sum(p["w"]), holed, holed, coords=[0.0, 1.0])
    np.testing.assert_array_equal(found.loss, [2.0, 4.0])


def test_complex_parameters_move_along_complex_directions():
    found = slice_1d(
        lambda z, _: jnp.abs(z) ** 2, jnp.array(1 + 1j), jnp.array(1j), coords=[0.0, 2.0]
    )
    np.testing.assert_allclose(found.loss, [2.0, 10.0], rtol=RTOL)


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(jax.nn.tanh(self.norm(self.dense(x))))


def deviation(model, x):
    return jnp.mean((model(x) - 0.3) ** 2)


def test_statistics_are_those_of_each_point_of_the_centre_or_of_the_batch():
    model = Normed(nnx.Rngs(0))
    model.norm.mean[...] = jnp.full(4, 0.3)
    (direction,) = random_directions(KEY, model, 1)
    found = {
        how: slice_1d(deviation, model, direction, X, coords=COORDS, statistics=how)
        for how in (None, "reestimated", "frozen")
    }
    assert found[None].statistics == "reestimated"
    np.testing.assert_array_equal(found[None].loss, found["reestimated"].loss)
    assert found["frozen"].statistics == "frozen"
    for index, coord in enumerate(COORDS):
        moved = nnx.clone(model)
        moved.dense.kernel[...] += coord * direction["dense"]["kernel"]
        moved.eval()
        np.testing.assert_allclose(found["frozen"].loss[index], deviation(moved, X), rtol=10 * RTOL)
        own = reestimate_statistics(deviation, moved, X)
        np.testing.assert_allclose(
            found["reestimated"].loss[index], deviation(own, X), rtol=100 * RTOL
        )
    assert np.max(np.abs(found["frozen"].loss / found[None].loss - 1)) > 0.1


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(x)
        return jax.nn.tanh(nn.BatchNorm(use_running_average=not train)(x))


def linen_evaluation(variables, x):
    return jnp.mean((Plain().apply(variables, x, train=False) - 0.3) ** 2)


def linen_training(variables, x):
    out, new = Plain().apply(variables, x, train=True, mutable=["batch_stats"])
    return jnp.mean((out - 0.3) ** 2), Aux(model_state=new)


def linen():
    variables = Plain().init(KEY, X, train=False)
    return linen_evaluation, variables, {"training_loss": linen_training}


class Equinox(eqx.Module):
    dense: eqx.nn.Linear
    norm: eqx.nn.BatchNorm

    def __call__(self, x, state):
        x, state = self.norm(self.dense(x), state)
        return jnp.tanh(x), state


def equinox_loss(model, x, state):
    every = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    out, state = every(x, state)
    return jnp.mean((out - 0.3) ** 2), Aux(model_state=state)


def equinox():
    make = lambda: Equinox(eqx.nn.Linear(3, 4, key=KEY), eqx.nn.BatchNorm(4, "batch", mode="batch"))
    model, state = eqx.nn.make_with_state(make)()
    return equinox_loss, model, {"model_state": state}


def by_hand():
    def training(w, x, state):
        z = x @ w
        mean, var = jnp.mean(z, 0), jnp.var(z, 0)
        new = {"m": 0.7 * state["m"] + 0.3 * mean, "v": 0.2 * state["v"] + 0.8 * var}
        return jnp.mean((jnp.tanh((z - mean) / jnp.sqrt(var + 1e-5)) - 0.3) ** 2), Aux(None, new)

    def evaluation(w, x, state):
        z = (x @ w - state["m"]) / jnp.sqrt(state["v"] + 1e-5)
        return jnp.mean((jnp.tanh(z) - 0.3) ** 2)

    state = {"m": jnp.zeros(4), "v": jnp.ones(4)}
    return evaluation, random_matrix(), {"training_loss": training, "model_state": state}


def random_matrix():
    return jax.random.normal(KEY, (3, 4))


@pytest.mark.parametrize("make", [linen, equinox, by_hand])
def test_re_estimated_on_one_batch_is_normalised_by_it_in_every_library(make):
    loss_fn, model, options = make()
    (direction,) = random_directions(KEY, model, 1)
    call = lambda how: (
        slice_1d(loss_fn, model, direction, X, coords=COORDS, statistics=how, **options).loss
    )
    default, batch, frozen = call(None), call("batch"), call("frozen")
    # 1 - a is known to eps / (1 - a), here of a momentum of .99, and the loss is of size one
    np.testing.assert_allclose(default, batch, rtol=200 * float(np.finfo(np.float32).eps))
    assert np.max(np.abs(frozen / default - 1)) > 0.1


def test_a_model_without_averages_is_taken_as_it_is():
    class Buffered(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.array(2.0))
            self.offset = nnx.Variable(jnp.array(1.0))

    found = slice_1d(
        lambda m, _: m.w[...] + m.offset[...], Buffered(), {"w": jnp.array(1.0)}, coords=[0.0, 1.0]
    )
    np.testing.assert_array_equal(found.loss, [3.0, 4.0])
    assert found.statistics is None


def one(**options):
    return slice_1d(bowl, CENTRE, ALONG, **({"coords": COORDS} | options))


BAD = {
    "zeros": (
        lambda: slice_1d(bowl, CENTRE, jax.tree.map(jnp.zeros_like, ALONG), coords=COORDS),
        ValueError,
        "slice_1d needs a direction that leads somewhere, got one of zeros.",
    ),
    "structure": (
        lambda: slice_1d(bowl, CENTRE, {"a": ALONG["a"], "c": ALONG["b"]}, coords=COORDS),
        ValueError,
        "slice_1d needs trees with the same leaves, got 'b' on one side and 'c' on the other.",
    ),
    "shape": (
        lambda: slice_2d(bowl, CENTRE, (ALONG, ALONG | {"b": jnp.ones(1)}), coords=(COORDS, [0])),
        ValueError,
        "slice_2d needs leaves of the same shape, got (1, 1) at 'b' and (1,) at 'b'.",
    ),
    "integers": (
        lambda: slice_1d(bowl, {"n": jnp.arange(2)}, {"n": jnp.arange(2)}, coords=COORDS),
        TypeError,
        "slice_1d needs floating or complex parameters, got int32 at 'n'.",
    ),
    "coords of two axes": (
        lambda: one(coords=COORDS[None]),
        ValueError,
        "slice_1d needs coords that are real numbers along one axis, at least one, "
        "got float32[1, 7].",
    ),
    "no coords": (
        lambda: one(coords=[]),
        ValueError,
        "slice_1d needs coords that are real numbers along one axis, at least one, got float64[0].",
    ),
    "complex coords": (
        lambda: one(coords=[1j]),
        ValueError,
        "slice_1d needs coords that are real numbers along one axis, at least one, "
        "got complex128[1].",
    ),
    "one direction": (
        lambda: slice_2d(bowl, CENTRE, [ALONG], coords=(COORDS, COORDS)),
        ValueError,
        "slice_2d needs two directions, got 1.",
    ),
    "three arrays of coords": (
        lambda: slice_2d(bowl, CENTRE, [ALONG, ACROSS], coords=(COORDS, COORDS, COORDS)),
        ValueError,
        "slice_2d needs two coords, got 3.",
    ),
    "statistics": (
        lambda: one(statistics="fixed"),
        ValueError,
        "slice_1d needs statistics='reestimated', 'frozen' or 'batch', got statistics='fixed'.",
    ),
    "statistics without a state": (
        lambda: one(statistics="frozen"),
        ValueError,
        "slice_1d needs a model with running averages, or model_state=, for statistics='frozen', "
        "got none.",
    ),
    "no averages": (
        lambda: slice_1d(
            lambda w, _, state: (w * state["m"], Aux(model_state=state)),
            1.0,
            1.0,
            coords=COORDS,
            model_state={"m": 1.0},
            statistics="reestimated",
        ),
        ValueError,
        "slice_1d needs a loss with running averages, which it renews in training and does not "
        "read there, got one without.",
    ),
    "evaluation alone": (
        lambda: slice_1d(linen()[0], linen()[1], linen()[1], X, coords=COORDS),
        ValueError,
        "slice_1d re-estimates running averages by what a loss in training returns, (loss, "
        "Aux(metrics, model_state)), got a loss that returns none: hand over that of the "
        "training as training_loss=, or say statistics='frozen'.",
    ),
    "training alone": (
        lambda: slice_1d(linen_training, linen()[1], linen()[1], X, coords=COORDS),
        ValueError,
        "slice_1d needs a loss that reads the running averages, got one that normalises by the "
        "batch: hand over that of the evaluation, and that of the training as training_loss=, or "
        "say statistics='batch'.",
    ),
    "frozen training": (
        lambda: slice_1d(
            linen_training, linen()[1], linen()[1], X, coords=COORDS, statistics="frozen"
        ),
        ValueError,
        "slice_1d needs a loss that reads the running averages, got one that normalises by the "
        "batch: hand over that of the evaluation, and that of the training as training_loss=, or "
        "say statistics='batch'.",
    ),
    "evaluation by the batch": (
        lambda: slice_1d(linen()[0], linen()[1], linen()[1], X, coords=COORDS, statistics="batch"),
        ValueError,
        "slice_1d needs a loss as in training for statistics='batch', which normalises by the "
        "batch and returns (loss, Aux(metrics, model_state)), got one that reads the state and "
        "leaves it as it is: hand over that of the training as training_loss=.",
    ),
    "points": (
        lambda: one(points_at_once=0),
        ValueError,
        "slice_1d needs points_at_once >= 1, a whole number, got points_at_once=0.",
    ),
    "a loss with axes": (
        lambda: slice_1d(lambda w, _: w["a"], CENTRE, ALONG, coords=COORDS),
        ValueError,
        "slice_1d needs loss_fn to return loss, (loss, metrics) or (loss, Aux(metrics, "
        "model_state)), a real scalar, got float32[2].",
    ),
    "a metric with axes": (
        lambda: slice_1d(lambda w, _: (w["a"][0], {"m": w["a"]}), CENTRE, ALONG, coords=COORDS),
        ValueError,
        "slice_1d needs scalars as metrics, got float32[2] for 'm'.",
    ),
    "no function": (
        lambda: slice_1d(3.0, CENTRE, ALONG, coords=COORDS),  # pyright: ignore[reportArgumentType]
        TypeError,
        "slice_1d needs a function, got float.",
    ),
    "a generator": (
        lambda: slice_1d(regression, CENTRE, ALONG, (b for b in [X]), coords=COORDS),
        TypeError,
        "slice_1d needs batches that can be gone through again and again, got a generator, which "
        "can be but once: make a list of it and hand over *batches, or a class whose __iter__ "
        "starts anew.",
    ),
    "batch_size": (
        lambda: slice_1d(regression, CENTRE, ALONG, X, coords=COORDS, batch_size=13),
        ValueError,
        "slice_1d needs 1 <= batch_size <= number of examples (12), got batch_size=13.",
    ),
    "the host under jit": (
        lambda: jax.jit(
            lambda c: slice_1d(regression, c, ALONG, *host_batches(), coords=COORDS).loss
        )(CENTRE),
        TypeError,
        "slice_1d goes through batches on the host, got Batches under a transformation of JAX "
        "such as jit, vmap or grad: hand over arrays there.",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)) as raised:
        call()
    assert str(raised.value) == sentence
