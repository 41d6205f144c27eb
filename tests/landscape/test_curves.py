"""Curves that are trained between two models."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.landscape import fit_bezier, linear_path, path_loss
from jaxopt_tut.optimizers import adam

KEY = jax.random.key(0)
ENDS = jnp.array([-1.0, 0.1]), jnp.array([1.0, 0.1])


def ring(w, batch):
    """A valley round a hill: the straight line leads over it."""
    return (jnp.sum(w**2) - 1) ** 2 * jnp.mean(batch)


def fit(*batches, num_steps=200, optimizer=None, **more):
    optimizer = adam(0.05) if optimizer is None else optimizer
    return fit_bezier(
        ring, *ENDS, *batches, key=KEY, optimizer=optimizer, num_steps=num_steps, **more
    )


def test_a_trained_curve_goes_round_a_hill():
    curve = fit(jnp.ones(4))
    straight = path_loss(ring, linear_path(*ENDS), jnp.ones(4))
    bent = path_loss(ring, curve, jnp.ones(4))
    # the line passes (0, .1), where the loss is (1 - .01)^2, and begins at 1e-4
    np.testing.assert_allclose(straight.barrier, 0.99**2 - 1e-4, rtol=1e-4)
    assert bent.barrier < 0.1
    assert not curve.diverged
    np.testing.assert_array_equal(curve(0), ENDS[0])
    np.testing.assert_array_equal(curve(1), ENDS[1])


def test_a_curve_is_trained_by_a_loss_of_the_parameters_alone():
    options = {"key": KEY, "optimizer": adam(0.05), "num_steps": 5}
    alone = fit_bezier(lambda w: ring(w, 1.0), *ENDS, **options)
    beside = fit_bezier(lambda w, _: ring(w, 1.0), *ENDS, **options)
    np.testing.assert_array_equal(alone.losses, beside.losses)


def test_steps_are_those_of_gradient_descent_at_uniform_places():
    batch, rate = jnp.array([2.0, 4.0]), 0.1
    quadratic = lambda w, x: jnp.sum(w**2) * jnp.mean(x)
    curve = fit_bezier(
        quadratic, *ENDS, batch, key=KEY, optimizer=optax.sgd(rate), num_steps=3, batch_size=1
    )
    control = np.array([0.0, 0.1])
    for index, x in enumerate([2.0, 4.0, 2.0]):  # chunks in their order, again and again
        t = float(jax.random.uniform(jax.random.split(jax.random.fold_in(KEY, index))[0], (1,))[0])
        weight = 2 * t * (1 - t)
        at = (1 - t) ** 2 * ENDS[0] + weight * control + t**2 * ENDS[1]
        np.testing.assert_allclose(curve.losses[index], x * np.sum(at**2), rtol=1e-5)
        control = control - rate * x * 2 * weight * at
    np.testing.assert_allclose(curve.points[1], control, rtol=1e-5)


@pytest.mark.parametrize("num_steps", [0, 4, 7])
def test_traced_steps_are_those_of_the_loop(num_steps):
    data = jnp.arange(5.0)  # chunks of 2, 2 and 1
    run = lambda data: fit(data, num_steps=num_steps, batch_size=2)
    plain, compiled = run(data), jax.jit(run)(data)
    np.testing.assert_allclose(compiled.losses, plain.losses, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(compiled.points[1], plain.points[1], rtol=1e-4, atol=1e-6)
    assert plain.losses.shape == (num_steps,)


def test_a_curve_is_mapped_and_differentiated_in_what_its_optimizer_is_made_of():
    last = lambda rate: fit(jnp.ones(2), num_steps=3, optimizer=optax.sgd(rate)).losses[-1]
    h = 1e-2
    slope = (last(0.1 + h) - last(0.1 - h)) / (2 * h)
    # central differences in single precision: h^2 of the third derivative, 1e-7 / h of rounding
    np.testing.assert_allclose(jax.grad(last)(0.1), slope, rtol=2e-3)
    both = jax.vmap(last)(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(both, [last(0.1), last(0.2)], rtol=1e-5)


def test_data_from_the_host_are_gone_through_again_and_again():
    class Batches:
        def __iter__(self):
            yield np.array([2.0], np.float32)
            yield np.array([4.0], np.float32)

    one = fit(Batches(), num_steps=5)
    other = fit(jnp.array([2.0, 4.0]), num_steps=5, batch_size=1)
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-6)
    traced = lambda start: (
        fit_bezier(
            ring, start, ENDS[1], Batches(), key=KEY, optimizer=optax.sgd(0.1), num_steps=2
        ).losses
    )
    with pytest.raises(TypeError, match=r"fit_bezier goes through batches on the host, got an it"):
        jax.jit(traced)(ENDS[0])


def test_a_curve_that_diverges_is_flagged_and_stays_finite():
    curve = fit(jnp.ones(2), num_steps=20, optimizer=optax.sgd(1e6))
    assert curve.diverged
    assert np.isfinite(curve.points[1]).all()
    assert np.isnan(curve.losses[-1])
    assert "diverged" in str(curve)


def test_models_are_connected_by_their_trained_arrays():
    make = lambda seed: eqx.nn.Linear(2, 1, key=jax.random.key(seed))
    loss_fn = lambda model, x: jnp.mean((jax.vmap(model)(x) - 1) ** 2)
    curve = fit_bezier(
        loss_fn, make(0), make(1), jnp.ones((4, 2)), key=KEY, optimizer=optax.sgd(0.1), num_steps=5
    )
    assert isinstance(curve(0.5), eqx.nn.Linear)
    np.testing.assert_array_equal(curve(1.0).weight, make(1).weight)
    assert path_loss(loss_fn, curve, jnp.ones((4, 2)), num_points=3).loss.shape == (3,)


def test_a_loss_that_draws_has_a_key_of_its_own_each_step():
    noise = lambda w, _, key: 0 * jnp.sum(w) + jax.random.uniform(key)
    losses = fit_bezier(noise, *ENDS, key=KEY, optimizer=optax.sgd(0.1), num_steps=4).losses
    assert len(set(losses.tolist())) == 4


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"fit_bezier needs num_steps >= 0, .*got num_steps=-1\."):
        fit(jnp.ones(2), num_steps=-1)
    with pytest.raises(TypeError, match=r"fit_bezier needs an optax transformation as optimizer"):
        fit(jnp.ones(2), optimizer=optax.sgd)
    with pytest.raises(
        ValueError, match=r"fit_bezier needs leaves of the same shape, got \(2,\) a"
    ):
        fit_bezier(ring, ENDS[0], jnp.ones(3), key=KEY, optimizer=optax.sgd(0.1), num_steps=1)
    with pytest.raises(
        ValueError, match=r"fit_bezier needs leaves of the same shape, got \(2,\) a"
    ):
        fit(jnp.ones(2), control=jnp.ones(3))
