"""The path that `fit` takes is kept, of any kind of model."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_tut.landscape import record_trajectory
from jaxopt_tut.probes import Snapshot
from jaxopt_tut.splitting import split_model
from jaxopt_tut.training import fit


def run(loss_fn, params, data, **options):
    given = dict(batch_size=len(data), num_epochs=12, key=jax.random.key(0), progress=False)
    return fit(loss_fn, params, optax.sgd(0.1), data, probe_every=5, **given | options)


def pull(w, batch):
    return jnp.sum((w["w"] - 1) ** 2) / 2 + jnp.abs(w["z"] - 1j) ** 2 / 2 + 0 * jnp.sum(batch)


@pytest.mark.parametrize("dtype", [None, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("is_double", [False, True])
def test_a_trajectory_is_that_of_the_closed_form(dtype, is_double):
    with jax.enable_x64(is_double):
        params = {"w": jnp.zeros(3), "z": jnp.zeros((), complex), "none": None}
        probes = {"path": record_trajectory(dtype=dtype)}
        result = run(pull, params, jnp.ones(2), probes=probes)
        path = result.history.probes["path"]
        own = result.params["w"].dtype
    expected = 1 - 0.9 ** np.array([0, 5, 10, 12])
    rounding = 12 * float(jnp.finfo(own if dtype is None else dtype).eps)
    assert result.history.probe_steps.tolist() == [0, 5, 10, 12]
    assert path["w"].dtype == (own if dtype is None else dtype)
    assert path["z"].dtype == result.params["z"].dtype
    assert path["none"] is None
    np.testing.assert_allclose(
        path["w"].astype(float), np.outer(expected, np.ones(3)), rtol=rounding
    )
    np.testing.assert_allclose(path["z"], 1j * expected, rtol=12 * float(jnp.finfo(own).eps))


MODELS = {
    "nnx": lambda: nnx.Linear(2, 1, rngs=nnx.Rngs(0)),
    "equinox": lambda: eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0)),
    "linen": lambda: {"params": {"kernel": jnp.ones((2, 1))}, "other": {"n": jnp.int32(0)}},
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_path_of_a_model_is_a_tree_of_its_trained_arrays(kind):
    model = MODELS[kind]()
    predict = {
        "nnx": lambda model, x: model(x),
        "equinox": lambda model, x: jax.vmap(model)(x),
        "linen": lambda model, x: x @ model["params"]["kernel"],
    }[kind]
    loss_fn = lambda model, x: jnp.mean((predict(model, x) - 1) ** 2)
    result = run(loss_fn, model, jnp.ones((4, 2)), probes={"path": record_trajectory()})
    first, last = split_model(model, "test").trained, split_model(result.params, "test").trained
    path = result.history.probes["path"]
    assert jax.tree.structure(path) == jax.tree.structure(first)
    jax.tree.map(lambda rows, one: np.testing.assert_array_equal(rows[0], one), path, first)
    jax.tree.map(lambda rows, one: np.testing.assert_array_equal(rows[-1], one), path, last)


def test_a_measurement_may_be_compiled():
    probe = record_trajectory(dtype=jnp.float16)
    now = Snapshot(3, {"w": jnp.float32(1.5), "count": jnp.int32(2)})
    _, kept = jax.jit(probe.measure)(probe.init(now), now)
    assert kept == {"w": jnp.float16(1.5), "count": None}


@pytest.mark.parametrize("dtype", [jnp.int32, bool, jnp.complex64])
def test_a_dtype_that_is_not_floating_is_refused(dtype):
    with pytest.raises(ValueError, match="record_trajectory needs a floating dtype, got dtype="):
        record_trajectory(dtype=dtype)
