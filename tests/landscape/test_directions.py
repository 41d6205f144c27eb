"""Random directions are as long as the parameters in each unit, of whatever library."""

import re

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.landscape import filter_normalize, random_directions

KEY = jax.random.key(0)


class Convolutional(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 3, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.head = nnx.Linear(3, 4, rngs=rngs)


def mlp(key=KEY, dtype=jnp.float32):
    keys = jax.random.split(key, 4)
    shapes = [(5, 7), (7,), (7, 3), (3,)]
    draw = [jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True)]
    return [{"kernel": draw[0], "bias": draw[1]}, {"kernel": draw[2], "bias": draw[3]}]


def norms(leaf, unit_axis):
    """The norms by unit, in NumPy and double precision."""
    leaf = np.moveaxis(np.asarray(leaf, np.float64), unit_axis, 0)
    return np.linalg.norm(leaf.reshape(len(leaf), -1), axis=1)


# a norm of n squares, a quotient and a product: under 20 roundings of single precision
RTOL = 20 * float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("count", [1, 3])
def test_every_filter_is_as_long_as_that_of_the_parameters(count):
    params = mlp()
    directions = random_directions(KEY, params, count)
    assert len(directions) == count
    for one in directions:
        assert jax.tree.structure(one) == jax.tree.structure(params)
        for layer, of in zip(one, params, strict=True):
            np.testing.assert_allclose(
                norms(layer["kernel"], -1), norms(of["kernel"], -1), rtol=RTOL
            )
            assert not np.any(layer["bias"])


def test_a_layer_is_as_long_as_that_of_the_parameters_and_its_filters_are_not():
    params = mlp()
    (one,) = random_directions(KEY, params, 1, normalize="layer")
    for layer, of in zip(one, params, strict=True):
        whole = np.linalg.norm(np.asarray(of["kernel"], np.float64))
        np.testing.assert_allclose(np.linalg.norm(layer["kernel"]), whole, rtol=RTOL)
        assert np.max(np.abs(norms(layer["kernel"], -1) - norms(of["kernel"], -1))) > 0.1


def test_without_normalisation_all_entries_are_standard_normal():
    params = {"kernel": jnp.zeros((200, 200)), "bias": jnp.zeros(40000)}
    (one,) = random_directions(KEY, params, 1, normalize=None)
    for leaf in one.values():
        # 40 000 numbers: standard errors .005 of the mean and .007 of the variance
        assert abs(leaf.mean()) < 0.02
        assert abs(leaf.var() - 1) < 0.03
    assert abs(np.corrcoef(one["kernel"].ravel(), one["bias"])[0, 1]) < 0.02


def test_directions_differ_and_are_the_same_for_the_same_key():
    first, second = random_directions(KEY, mlp(), 2)
    again, _ = random_directions(KEY, mlp(), 2)
    assert np.array_equal(first[0]["kernel"], again[0]["kernel"])
    cosine = jnp.vdot(first[0]["kernel"], second[0]["kernel"])
    cosine /= jnp.linalg.norm(first[0]["kernel"]) * jnp.linalg.norm(second[0]["kernel"])
    assert abs(cosine) < 0.7  # 35 dimensions: a standard deviation of .17


@settings(deadline=None, max_examples=10)  # the first one compiles
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_rescaled_relu_layers_have_the_same_slices(alpha, length):
    def loss(params, x):
        hidden, head = params
        hidden = jax.nn.relu(x @ hidden["kernel"] + hidden["bias"])
        return jnp.mean((hidden @ head["kernel"] + head["bias"]) ** 2)

    with jax.enable_x64(True):
        params = mlp(dtype=jnp.float64)
        x = jax.random.normal(jax.random.key(1), (6, 5), jnp.float64)
        hidden, head = params
        rescaled = [
            {name: alpha * leaf for name, leaf in hidden.items()},
            {"kernel": head["kernel"] / alpha, "bias": head["bias"]},
        ]
        direction = jax.tree.map(
            lambda leaf: jax.random.normal(KEY, leaf.shape, leaf.dtype), params
        )
        stretched = jax.tree.map(lambda leaf: length * leaf, direction)
        for biases in (False, True):
            along = lambda of, d, b=biases: jax.tree.map(
                lambda p, s: p + 0.7 * s, of, filter_normalize(d, of, biases=b)
            )
            value = loss(along(params, direction), x)
            assert value != loss(params, x)
            np.testing.assert_allclose(loss(along(rescaled, stretched), x), value, rtol=1e-12)


def test_biases_may_move_each_as_long_as_it_is_as_a_whole():
    params = mlp()
    (one,) = random_directions(KEY, params, 1, biases=True)
    for layer, of in zip(one, params, strict=True):
        np.testing.assert_allclose(
            np.linalg.norm(layer["bias"]), np.linalg.norm(of["bias"]), rtol=RTOL
        )


def test_units_of_zeros_stay_and_derivatives_are_finite():
    params = {"kernel": jnp.array([[1.0, 0.0], [2.0, 0.0]])}
    direction = {"kernel": jnp.array([[0.0, 1.0], [0.0, 1.0]])}
    assert not np.any(filter_normalize(direction, params)["kernel"])
    total = lambda d, p: jnp.sum(filter_normalize({"kernel": d}, {"kernel": p})["kernel"])
    for grad in jax.grad(total, argnums=(0, 1))(direction["kernel"], params["kernel"]):
        assert np.all(np.isfinite(grad))


def test_norms_beyond_what_squares_can_hold_are_right():
    params = {"kernel": jnp.array([[3e30, 3e-30], [4e30, 4e-30]])}
    direction = {"kernel": jnp.array([[1e-30, 1e30], [0.0, 0.0]])}
    found = filter_normalize(direction, params)["kernel"]
    np.testing.assert_allclose(found, [[5e30, 5e-30], [0, 0]], rtol=RTOL)


def test_derivative_by_the_parameters_is_that_of_the_norm():
    kernel = jnp.array([[3.0], [4.0]])
    first = lambda k: filter_normalize({"k": jnp.array([[1.0], [0.0]])}, {"k": k})["k"][0, 0]
    np.testing.assert_allclose(jax.grad(first)(kernel), [[0.6], [0.8]], rtol=RTOL)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
def test_dtypes_are_kept(dtype):
    params = {"kernel": jnp.full((300, 2), 3, dtype), "none": None}
    (one,) = random_directions(KEY, params, 1)
    assert one["kernel"].dtype == dtype
    assert one["none"] is None
    size = np.linalg.norm(np.asarray(one["kernel"], np.complex128), axis=0)
    # rounded once to the dtype, in 300 entries whose errors are independent
    np.testing.assert_allclose(size, 3 * np.sqrt(300), rtol=float(jnp.finfo(dtype).eps) + RTOL)


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        params = mlp(dtype=jnp.float64)
        (one,) = random_directions(KEY, params, 1)
        np.testing.assert_allclose(
            norms(one[0]["kernel"], -1), norms(params[0]["kernel"], -1), rtol=1e-14
        )


def test_filters_of_flax_nnx_lie_along_the_last_axis():
    model = Convolutional(nnx.Rngs(0))
    (one,) = random_directions(KEY, model, 1)
    np.testing.assert_allclose(
        norms(one["conv"]["kernel"], -1), norms(model.conv.kernel[...], -1), rtol=RTOL
    )
    assert not np.any(one["norm"]["scale"])
    assert not np.any(one["conv"]["bias"])
    assert "mean" not in one["norm"]
    # a model of the same kind is a direction, too
    other = filter_normalize(Convolutional(nnx.Rngs(1)), model)
    np.testing.assert_allclose(
        norms(other["head"]["kernel"], -1), norms(model.head.kernel[...], -1), rtol=RTOL
    )


def test_filters_of_flax_linen_lie_along_the_last_axis():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=True)(nn.Dense(3)(x))

    variables = Net().init(KEY, jnp.ones((2, 4)))
    (one,) = random_directions(KEY, variables, 1)
    kernel = variables["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(norms(one["Dense_0"]["kernel"], -1), norms(kernel, -1), rtol=RTOL)
    assert not np.any(one["BatchNorm_0"]["scale"])


def test_filters_of_equinox_lie_along_the_first_axis_and_biases_with_axes_of_one_stay():
    keys = jax.random.split(KEY, 2)
    model = {"net": [eqx.nn.Conv2d(2, 5, 3, key=keys[0]), eqx.nn.Linear(5, 3, key=keys[1])]}
    (one,) = random_directions(KEY, model, 1)
    for layer, of in zip(one["net"], model["net"], strict=True):
        np.testing.assert_allclose(norms(layer.weight, 0), norms(of.weight, 0), rtol=RTOL)
        assert not np.any(layer.bias)


@pytest.mark.parametrize(
    ("unit_axis", "axis"), [(0, 0), ({"*kernel": 0}, 0), ({"0/*": (-1,), "1/kernel": 0}, None)]
)
def test_the_axis_of_units_may_be_given(unit_axis, axis):
    params = mlp()
    one = filter_normalize(mlp(jax.random.key(1)), params, unit_axis=unit_axis)
    for index, (layer, of) in enumerate(zip(one, params, strict=True)):
        place = axis if axis is not None else -1 + index
        np.testing.assert_allclose(
            norms(layer["kernel"], place), norms(of["kernel"], place), rtol=RTOL
        )


def test_units_may_lie_along_two_axes():
    params = {"qkv": jax.random.normal(KEY, (4, 2, 3))}
    one = filter_normalize({"qkv": jnp.ones((4, 2, 3))}, params, unit_axis={"qkv": (1, 2)})
    np.testing.assert_allclose(
        np.linalg.norm(one["qkv"], axis=0), np.linalg.norm(params["qkv"], axis=0), rtol=RTOL
    )


def test_flat_vectors_are_directions():
    params = mlp()
    flat = jax.random.normal(KEY, (sum(leaf.size for leaf in jax.tree.leaves(params)),))
    one = filter_normalize(flat, params)
    np.testing.assert_allclose(
        norms(one[0]["kernel"], -1), norms(params[0]["kernel"], -1), rtol=RTOL
    )


def test_compiled_and_vectorised_as_called_one_by_one():
    params = mlp()
    keys = jax.random.split(KEY, 3)
    call = lambda key: random_directions(key, params, 1)[0][0]["kernel"]
    one_by_one = jnp.stack([call(key) for key in keys])
    np.testing.assert_allclose(jax.jit(jax.vmap(call))(keys), one_by_one, rtol=RTOL)


BAD = {
    "count 0": (
        lambda: random_directions(KEY, mlp(), 0),
        ValueError,
        "random_directions needs count >= 1, got count=0.",
    ),
    "count 1.5": (
        lambda: random_directions(KEY, mlp(), 1.5),  # pyright: ignore[reportArgumentType]
        TypeError,
        "random_directions needs a whole number as count, got count=1.5.",
    ),
    "normalize": (
        lambda: random_directions(KEY, mlp(), 1, normalize="unit"),  # pyright: ignore[reportArgumentType]
        ValueError,
        "random_directions needs normalize='filter', 'layer' or None, got normalize='unit'.",
    ),
    "integers": (
        lambda: random_directions(KEY, {"a": {"n": jnp.arange(3)}}, 1),
        TypeError,
        "random_directions needs floating or complex parameters, got int32 at 'a/n'.",
    ),
    "structure": (
        lambda: filter_normalize({"a": jnp.ones((2, 2))}, {"b": jnp.ones((2, 2))}),
        ValueError,
        "filter_normalize needs trees with the same leaves, got 'b' on one side and 'a' on the "
        "other.",
    ),
    "shape": (
        lambda: filter_normalize({"a": jnp.ones((2, 3))}, {"a": jnp.ones((2, 2))}),
        ValueError,
        "filter_normalize needs leaves of the same shape, got (2, 2) at 'a' and (2, 3) at 'a'.",
    ),
    "pattern": (
        lambda: filter_normalize(mlp(), mlp(), unit_axis={"2/*": 0}),
        ValueError,
        "filter_normalize needs patterns in unit_axis that match a leaf, got '2/*' for "
        "['0/bias', '0/kernel', '1/bias', '1/kernel'].",
    ),
    "axis": (
        lambda: filter_normalize(mlp(), mlp(), unit_axis=2),
        ValueError,
        "filter_normalize needs axes of the leaf as unit_axis, got (2,) for shape (5, 7) at "
        "'0/kernel'.",
    ),
    "axis by name": (
        lambda: filter_normalize(mlp(), mlp(), unit_axis="last"),  # pyright: ignore[reportArgumentType]
        TypeError,
        "filter_normalize needs whole numbers as unit_axis, got unit_axis='last'.",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        call()
