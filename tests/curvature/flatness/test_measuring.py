"""What all kinds of sharpness promise, one table of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_tut import curvature
from jaxopt_tut.curvature import (
    Ascent,
    AverageCase,
    Critical,
    LargestEigenvalue,
    SharpnessKind,
    sharpness,
)
from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.training import Aux
from tests.curvature.flatness.problems import (
    FAMILIES,
    KEY,
    KINDS,
    images,
    network,
    rescaled,
    weights,
)

in_double = pytest.mark.usefixtures("x64")

each_family = pytest.mark.parametrize("kind", FAMILIES.values(), ids=FAMILIES.keys())
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def measure(params, *batches, kind, loss_fn=network, **given):
    return sharpness(loss_fn, params, *batches, kind=kind, key=KEY, **given)


def test_every_public_kind_is_in_the_table():
    classes = [getattr(curvature, name) for name in curvature.__all__]
    kinds = {one for one in classes if isinstance(one, type) and hasattr(one, "measure")}
    assert kinds - {SharpnessKind} == {type(kind) for kind in KINDS.values()}


@pytest.mark.parametrize(
    "kind",
    [
        # Lanczos as one program, and once more in a batch, takes seconds to compile
        pytest.param(kind, id=name, marks=[pytest.mark.slow] if "eigenvalue" in name else [])
        for name, kind in KINDS.items()
    ],
)
@in_double
def test_a_program_gives_what_the_host_gives(kind):
    params, batch = weights(), images()
    alone = measure(params, batch, kind=kind)
    run = lambda params: measure(params, batch, kind=kind)
    program = jax.jit(run)(params)
    many = jax.vmap(run)(jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params))
    twice = run(jax.tree.map(lambda leaf: 2 * leaf, params))
    assert isinstance(kind, SharpnessKind)
    # a rise is a difference of losses of order 1; a rate, of such over 1e-2
    np.testing.assert_allclose(program.mean, alone.mean, rtol=1e-9)
    np.testing.assert_allclose(many.mean, jnp.stack([alone.mean, twice.mean]), rtol=1e-9)
    np.testing.assert_allclose(many.sem, jnp.stack([alone.sem, twice.sem]), rtol=1e-9)
    assert (alone.sem > 0) == (alone.degrees > 0) == isinstance(kind, AverageCase)


@pytest.mark.slow
@each_kind
@in_double
def test_its_derivative_is_that_of_finite_differences(kind):
    params, batch = weights(), images()
    rng = np.random.default_rng(0)
    step = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params)
    along = lambda t: (
        measure(jax.tree.map(lambda w, s: w + t * s, params, step), batch, kind=kind).mean
    )
    reverse = jax.jit(jax.grad(along))(0.0)
    forward = jax.jit(jax.jvp, static_argnums=0)(along, (0.0,), (1.0,))[1]
    h = 1e-6
    central = (along(h) - along(-h)) / (2 * h)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9)
    # differences of 1e-10 in h; the critical rate has an error of tol, 1e-5, over its interval
    np.testing.assert_allclose(reverse, central, rtol=1e-4)


@each_family
@in_double
def test_chunks_and_unequal_batches_and_those_of_the_host_give_what_the_whole_gives(kind):
    params, (x, y) = weights(), images()
    whole = measure(params, (x, y), kind=kind)
    parts = [(x[:4], y[:4]), (x[4:15], y[4:15]), (x[15:], y[15:])]

    class Loader:
        def __iter__(self):
            return iter(parts)

    for value in (
        measure(params, (x, y), kind=kind, batch_size=5),
        measure(params, *parts, kind=kind),
        measure(params, Loader(), kind=kind),
        jax.jit(lambda params: measure(params, (x, y), kind=kind, batch_size=5))(params),
    ):
        np.testing.assert_allclose(value.mean, whole.mean, rtol=1e-8)
        np.testing.assert_allclose(value.sem, whole.sem, rtol=1e-8)


@each_kind
@in_double
def test_single_precision_stays_and_is_near_double(kind):
    single = measure(weights(np.float32), images(np.float32), kind=kind)
    double = measure(weights(), images(), kind=kind)
    assert single.mean.dtype == single.sem.dtype == jnp.float32
    assert double.mean.dtype == double.sem.dtype == jnp.float64
    if not isinstance(kind, AverageCase):  # draws depend on the precision
        # rounding of a loss of order 1 beside rises of order .01
        np.testing.assert_allclose(single.mean, double.mean, rtol=1e-3)


@each_kind
@in_double
def test_the_adaptive_kinds_are_those_that_a_rescaled_layer_leaves_alone(kind):
    batch = images()
    before, after = (
        measure(params, batch, kind=kind).mean for params in (weights(), rescaled(weights(), 40.0))
    )
    if kind.adaptive:
        np.testing.assert_allclose(after, before, rtol=1e-6)
    else:
        assert abs(np.log(after / before)) > np.log(3)


@each_family
def test_the_same_key_gives_the_same_bits_and_layers_that_are_empty_pass(kind):
    params, batch = weights(np.float32), images(np.float32)
    more = {**params, "none": None, "empty": jnp.zeros((0, 2))}
    one, two, three = (measure(p, batch, kind=kind) for p in (params, params, more))
    assert one.mean == two.mean
    if not isinstance(kind, AverageCase) and not getattr(kind, "num_steps", 1) > 1:
        np.testing.assert_allclose(three.mean, one.mean, rtol=1e-3)
    assert np.isfinite(three.mean)


@each_family
@in_double
def test_complex_parameters_are_their_real_and_imaginary_parts(kind):
    rng = np.random.default_rng(0)
    matrix = jnp.asarray(rng.normal(size=(5, 3)) + 1j * rng.normal(size=(5, 3)))
    z = jnp.asarray(rng.normal(size=3) + 1j * rng.normal(size=3))
    on_complex = lambda z, a: jnp.mean(jnp.abs(a @ z) ** 2)
    on_parts = lambda parts, a: on_complex(jax.lax.complex(*jnp.split(parts, 2)), a)
    one = measure(z, matrix, loss_fn=on_complex, kind=kind).mean
    assert one > 0
    if not kind.adaptive and not (isinstance(kind, Ascent) and "L2" not in repr(kind.norm)):
        parts = jnp.concatenate([z.real, z.imag])
        two = measure(parts, matrix, loss_fn=on_parts, kind=kind).mean
        np.testing.assert_allclose(one, two, rtol=1e-9)


@each_family
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_a_flag_and_ends(kind, bad):
    params = {**weights(np.float32), "b2": jnp.full(4, bad, jnp.float32)}
    run = lambda params: measure(params, images(np.float32), kind=kind).mean
    assert np.isnan(run(params))
    assert np.isnan(jax.jit(run)(params))


@pytest.mark.parametrize("build", [Ascent, AverageCase], ids=["ascent", "average"])
@in_double
def test_the_radius_may_be_traced(build):
    params, batch = weights(), images()
    run = lambda radius: measure(params, batch, kind=build(radius)).mean
    each = jax.vmap(run)(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(each, [run(0.1), run(0.2)], rtol=1e-9)
    h = 1e-6
    central = (run(0.1 + h) - run(0.1 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(run)(0.1), central, rtol=1e-6)


class Net(nnx.Module):
    """A layer with a mean that is not trained, and dropout."""

    def __init__(self, rngs):
        self.inner = nnx.Linear(3, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)
        self.outer = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, x):
        return self.outer(nnx.relu(self.norm(self.inner(x))))


def drawn(params, batch, key):
    x, y = batch
    return network(params, (jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0), y))


def with_state(params, batch, model_state):
    x, y = batch
    return network(params, (x - model_state["mean"], y)), Aux(model_state=model_state)


def of_nnx(model, batch):
    x, y = batch
    chosen = jnp.take_along_axis(jax.nn.log_softmax(model(x)), y[:, None], axis=1)
    return -jnp.mean(chosen), {"logits": model(x)}


@each_family
@in_double
def test_losses_of_every_form_and_models_go_in(kind):
    params, batch = weights(), images()
    plain = measure(params, batch, kind=kind)
    state = {"mean": jnp.ones(3)}
    shifted = (batch[0] + 1, batch[1])
    stated = measure(params, shifted, kind=kind, loss_fn=with_state, model_state=state)
    np.testing.assert_allclose(stated.mean, plain.mean, rtol=1e-9)
    # what is drawn stays while parameters move: else the rise would be the noise of the masks
    once, again = (measure(params, batch, kind=kind, loss_fn=drawn) for _ in range(2))
    assert once.mean == again.mean
    assert once.mean < 10 * plain.mean
    model = nnx.merge(*nnx.split(Net(nnx.Rngs(0))))
    assert 0 < measure(model, images(np.float32), kind=kind, loss_fn=of_nnx).mean < 100


@each_family
def test_bytes_of_a_dataset_are_normalised(kind):
    rng = np.random.default_rng(0)
    split = Split(
        rng.integers(0, 256, (12, 28, 28)).astype(np.uint8), rng.integers(0, 4, 12).astype(np.int32)
    )
    data = Dataset(split, split, 0.3, 0.4)
    x = (split.images.astype(np.float32) / 255 - np.float32(0.3)) / np.float32(0.4)
    params = {
        name: jnp.asarray(np.random.default_rng(1).normal(size=shape) / 28, np.float32)
        for name, shape in {"w1": (784, 5), "b1": (5,), "w2": (5, 4), "b2": (4,)}.items()
    }
    loss_fn = lambda params, batch: network(params, (batch[0].reshape(-1, 784), batch[1]))
    one, two = (
        measure(params, batch, kind=kind, loss_fn=loss_fn, batch_size=5)
        for batch in (data, (x, split.labels))
    )
    np.testing.assert_allclose(one.mean, two.mean, rtol=1e-4)


def test_the_kind_may_stand_behind_the_batches():
    params, batch = weights(np.float32), images(np.float32)
    one = sharpness(network, params, batch, Ascent(0.1))
    assert one.mean == measure(params, batch, kind=Ascent(0.1)).mean
    default = sharpness(network, params, batch, key=KEY)
    assert default.mean == measure(params, batch, kind=LargestEigenvalue()).mean


def test_a_kind_of_ones_own_goes_in():
    class Norm:
        needs_key = False

        def measure(self, around, key):
            assert key is None
            size = jnp.linalg.norm(around.value_and_gradient(around.start())[1])
            return curvature.Estimate(size, jnp.zeros_like(size))

    value = sharpness(lambda w, _: jnp.sum(w**2), jnp.array([3.0, 4.0]), kind=Norm())
    np.testing.assert_allclose(value.mean, 10.0, rtol=1e-6)


BAD_KINDS = {
    "Ascent needs a finite radius > 0, got radius=0.0.": lambda: Ascent(0.0),
    "Ascent needs a finite radius > 0, got radius=inf.": lambda: Ascent(np.inf),
    "Ascent needs num_steps >= 1, got num_steps=0.": lambda: Ascent(0.1, num_steps=0),
    "Ascent needs a whole num_steps, got num_steps=1.5.": lambda: Ascent(0.1, num_steps=1.5),
    "Ascent needs one of optimizers.norms, got norm=2.": lambda: Ascent(0.1, 2),
    "AverageCase needs a finite radius > 0, got radius=-1.": lambda: AverageCase(-1),
    "AverageCase needs num_samples >= 2, got num_samples=1.": lambda: AverageCase(0.1, 1),
    "AverageCase needs a whole num_samples, got num_samples='9'.": lambda: AverageCase(0.1, "9"),
    "LargestEigenvalue needs a preconditioner or adaptive=True, got both of them.": (
        lambda: LargestEigenvalue(2.0, adaptive=True)
    ),
    "LargestEigenvalue needs max_products >= 1, got max_products=0.": lambda: LargestEigenvalue(
        max_products=0
    ),
    "LargestEigenvalue needs a whole max_products, got max_products=1.5.": (
        lambda: LargestEigenvalue(max_products=1.5)
    ),
    "LargestEigenvalue needs a finite tol >= 0, got tol=-1.0.": lambda: LargestEigenvalue(tol=-1.0),
    "Critical needs a finite tol > 0, got tol=0.": lambda: Critical(0),
    "Critical needs max_values >= 1, got max_values=0.": lambda: Critical(max_values=0),
    "Critical needs a whole max_values, got max_values=2.5.": lambda: Critical(max_values=2.5),
}


@pytest.mark.parametrize("sentence", BAD_KINDS)
def test_kinds_that_cannot_be(sentence):
    with pytest.raises((TypeError, ValueError)) as error:
        BAD_KINDS[sentence]()
    assert str(error.value) == sentence


def call(params=None, batch=None, **given):
    params = weights(np.float32) if params is None else params
    batch = images(np.float32) if batch is None else batch
    return sharpness(given.pop("loss_fn", network), params, batch, **given)


BAD_CALLS = {
    "sharpness needs a kind such as Ascent(0.05), got kind='sam'.": lambda: call(kind="sam"),
    "sharpness needs a key for kind=AverageCase(radius=0.1, num_samples=100, adaptive=False), "
    "which draws, got key=None.": lambda: call(kind=AverageCase(0.1)),
    "sharpness needs a function as loss_fn, got float.": lambda: call(
        loss_fn=1.0, kind=Ascent(0.1)
    ),
    "sharpness calls loss_fn(params, batch), got a loss of (params, batch, key): missing a "
    "required argument: 'key'; a key for a loss that draws is sharpness(..., key=).": lambda: call(
        loss_fn=drawn, kind=Ascent(0.1)
    ),
    "sharpness needs a loss that is a real scalar, alone or first of a pair, got float32[23, 3].": (
        lambda: call(loss_fn=lambda _, batch: batch[0], kind=Ascent(0.1))
    ),
    "sharpness needs floating or complex parameters, got int32 at 'count'.": lambda: call(
        params={"count": jnp.int32(3)}, kind=Critical()
    ),
    "sharpness needs batch_size >= 1, got batch_size=0.": lambda: call(
        kind=Critical(), batch_size=0
    ),
    "sharpness needs 1 <= batch_size <= number of examples (23), got batch_size=24.": lambda: call(
        kind=Critical(), batch_size=24
    ),
    "sharpness needs batches that can be gone through again and again, got a generator, "
    "which can be but once: make a list of it and hand over *batches, or a class whose "
    "__iter__ starts anew.": (lambda: call(batch=(batch for batch in [1]), kind=Critical())),
}


@pytest.mark.parametrize("sentence", BAD_CALLS)
def test_calls_that_cannot_be(sentence):
    with pytest.raises((TypeError, ValueError)) as error:
        BAD_CALLS[sentence]()
    assert str(error.value) == sentence


def test_batches_of_the_host_are_refused_under_a_transformation():
    class Loader:
        def __iter__(self):
            return iter([images(np.float32)])

    run = jax.jit(lambda params: sharpness(network, params, Loader(), kind=Ascent(0.1)).mean)
    with pytest.raises(
        TypeError, match=r"^sharpness goes through batches on the host, got Loader "
    ):
        run(weights(np.float32))
