"""Fits from residuals alone, with and without robust losses, beside SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from jaxopt_tut.optimizers import (
    adam,
    bfgs,
    gauss_newton,
    half_squares,
    lbfgs,
    lbfgsb,
    least_squares,
    levenberg_marquardt,
    trust_region,
)
from jaxopt_tut.optimizers.robust_losses import LOSSES

T = np.linspace(0.0, 3.0, 12)
NOISE = 0.02 * np.sin(37 * T) + 2.0 * (np.arange(12) == 4)


def decay(w, xp):
    return w[0] * xp.exp(-w[1] * T) - (2 * np.exp(-0.7 * T) + NOISE)


def line(w, xp):
    del xp
    return w[0] + w[1] * T - (1 + 2 * T + NOISE)


def hill(w, xp):
    return w[0] / (1 + xp.exp(w[1] - w[2] * T)) - (3 / (1 + np.exp(2 - 2 * T)) + NOISE)


PROBLEMS = {
    "decay": (decay, [1.5, 1.0]),
    "near decay": (decay, [1.9, 0.8]),
    "line": (line, [0.5, 1.5]),
    "hill": (hill, [2.5, 1.5, 1.5]),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_fits_and_costs_are_those_of_scipy(problem, loss):
    function, start = PROBLEMS[problem]
    theirs = scipy.optimize.least_squares(
        lambda w: function(w, np), start, loss=loss, f_scale=0.1, xtol=1e-14, ftol=1e-14, gtol=1e-12
    )
    ours = least_squares(
        lambda w: function(w, jnp), jnp.array(start), loss=loss, loss_scale=0.1, gtol=1e-9
    )
    assert ours.converged
    # SciPy's differences leave 1e-8 in its derivatives, and so in its parameters
    np.testing.assert_allclose(ours.params, theirs.x, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.value, theirs.cost, rtol=1e-9, atol=1e-15)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "optimizer", [lbfgs(), bfgs(), trust_region(), gauss_newton(), lbfgsb(), adam(0.05)]
)
def test_any_optimizer_fits(optimizer):
    residuals = lambda w: line(w, jnp)
    found = least_squares(residuals, jnp.zeros(2), optimizer=optimizer, loss="soft_l1")
    best = least_squares(residuals, jnp.zeros(2), loss="soft_l1")
    assert found.converged
    # both end where no component of the gradient is above 1e-6, of a curvature above .1
    np.testing.assert_allclose(found.params, best.params, atol=1e-4)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", [None, lbfgsb()], ids=["residuals", "values"])
def test_bounds_hold_as_in_scipy(loss, optimizer):
    low, high = [0.0, 0.0], [1.8, 9.0]
    theirs = scipy.optimize.least_squares(
        lambda w: decay(w, np), [1.5, 1.0], bounds=(low, high), loss=loss, f_scale=0.5,
        xtol=1e-14, ftol=1e-14, gtol=1e-12,
    )  # fmt: skip
    ours = least_squares(
        lambda w: decay(w, jnp), jnp.array([1.5, 1.0]), bounds=(0.0, jnp.array(high)),
        optimizer=optimizer, loss=loss, loss_scale=0.5, gtol=1e-9,
    )  # fmt: skip
    assert ours.converged
    assert ours.active.tolist() == [1, 0]
    # SciPy's points are inside, by as much as its limits leave
    np.testing.assert_allclose(ours.params, theirs.x, rtol=1e-5)
    np.testing.assert_allclose(ours.value, theirs.cost, rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", LOSSES)
def test_whole_steps_never_raise_the_loss_of_linear_residuals(loss):
    # reweighted least squares minimise a majorant, from wherever they start
    whole = gauss_newton(line_search=optax.identity())
    fit = lambda w: least_squares(
        lambda w: line(w, jnp), w, optimizer=whole, loss=loss, loss_scale=0.1,
        max_steps=12, history=True,
    ).history.value  # fmt: skip
    values = jax.vmap(fit)(10 * jax.random.normal(jax.random.key(0), (20, 2)))
    assert np.all(np.diff(values, axis=1) <= 1e-12 * values[:, :1])


@pytest.mark.untyped
def test_the_second_fit_does_not_trace_again():
    traces = []

    def residuals(w, y):
        traces.append(1)
        return w - y

    first = least_squares(residuals, 0.0, jnp.array([1.0, 2.0]), loss="cauchy")
    seen = len(traces)
    second = least_squares(residuals, 0.0, jnp.array([3.0, 3.5]), loss="cauchy")
    assert len(traces) == seen > 0
    least_squares(residuals, 0.0, jnp.array([3.0, 3.5]), loss="cauchy", loss_scale=2)
    assert len(traces) == seen > 0
    assert first.params != second.params


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scales_are_traced_and_fits_batched(dtype):
    with jax.enable_x64(dtype == "float64"):
        y = jnp.array([[0.0, 0.1, 5.0], [1.0, 1.2, -4.0]], dtype)
        fit = lambda y, c: least_squares(
            lambda w: {"a": w - y[:2], "b": (w - y[2], None)},
            jnp.mean(y), loss="huber", loss_scale=c,
        ).params  # fmt: skip
        scales = jnp.array([0.5, 1.0], dtype)
        batched = jax.jit(jax.vmap(fit))(y, scales)
        assert batched.dtype == dtype
        # two residuals within the scale, one beyond: sum of the first is minus the scale
        expected = [np.sum(row[:2]) / 2 + np.sign(row[2]) * c / 2 for row, c in zip(y, scales)]  # noqa: B905
        np.testing.assert_allclose(batched, expected, rtol=100 * np.finfo(dtype).eps ** 0.5)


def test_complex_residuals_count_by_their_modulus():
    z = jnp.array([1 + 2j, 3 - 1j, 2 + 2j])
    solution = least_squares(lambda w: w - z, jnp.zeros([], z.dtype))
    np.testing.assert_allclose(solution.params, np.mean(z), rtol=1e-5)
    np.testing.assert_allclose(
        solution.value, np.sum(np.abs(np.mean(z) - np.asarray(z)) ** 2) / 2, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"loss": "hubert"}, ValueError, "least_squares needs loss .* got loss='hubert'"),
        ({"loss_scale": 0.0}, ValueError, "loss_scale > 0, got loss_scale=0.0"),
        ({"loss_scale": -1.0}, ValueError, "loss_scale > 0, got loss_scale=-1.0"),
        ({"loss_scale": "a"}, TypeError, "loss_scale='a'"),
        ({"verbose": 2}, TypeError, "least_squares has no verbose=; write callback="),
        ({"jac": "2-point"}, TypeError, "least_squares has no jac=; write nothing"),
        ({"f_scale": 1.0}, TypeError, "has no f_scale=; write loss_scale="),
        ({"optimizer": lbfgs}, TypeError, r"least_squares needs .*call it, lbfgs"),
        ({"optimizer": lbfgsb(), "bounds": (2.0, 1.0)}, ValueError, "lower <= upper"),
    ],
)
def test_wrong_options_are_refused_in_sentences(options, kind, message):
    with pytest.raises(kind, match=message):
        least_squares(lambda w: w - 1.0, 0.0, **options)


@pytest.mark.parametrize(
    ("residuals", "kind", "message"),
    [
        (lambda _: None, ValueError, "residual_fn to return residuals, got None"),
        (lambda _: [], ValueError, "residuals, got an empty tree"),
        (lambda _: jnp.arange(3), TypeError, "floating or complex residuals, got int32"),
        (lambda _: {"a": "text"}, TypeError, "got .*str.* at 'a'"),
        (3.0, TypeError, "needs a function of the parameters first, got 3.0"),
    ],
)
def test_what_are_no_residuals_is_refused(residuals, kind, message):
    with pytest.raises(kind, match=message):
        least_squares(residuals, 0.0, optimizer=levenberg_marquardt())


def test_the_objective_knows_its_residuals():
    objective = half_squares(lambda w, y: w - y, loss="cauchy", loss_scale=2.0)
    y = jnp.array([0.0, 1e-6, 3.0, 50.0])
    rows = jnp.stack(objective.residuals(0.0, y))
    np.testing.assert_allclose(objective(0.0, y), jnp.sum(rows**2) / 2, rtol=1e-6)
