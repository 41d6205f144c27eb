import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import (
    CG,
    AutoSolve,
    Dense,
    HypergradientWarning,
    Implicit,
    LeastSquares,
    Neumann,
    NormalCG,
    Unroll,
    hypergrad,
)
from jaxopt_tut.optimizers import sgd
from tests.bilevel.problems import make_ridge


def logistic(ridge):
    signs, validation_signs = jnp.sign(ridge.targets), jnp.sign(ridge.validation_targets)

    def f(y, z):
        loss = jnp.mean(jnp.logaddexp(0.0, -signs * (ridge.train @ y)))
        return loss + 0.5 * jnp.sum(jnp.exp(z) * y**2)

    def outer(y, _):
        return jnp.mean(jnp.logaddexp(0.0, -validation_signs * (ridge.validation @ y)))

    return f, outer


@pytest.mark.parametrize("problem", ["ridge", "logistic"])
@pytest.mark.usefixtures("x64")
def test_the_estimate_is_close_to_the_true_error(problem):
    ridge = make_ridge()
    z, rate, f, outer = jnp.float64(-1.0), 0.25, ridge.f, ridge.outer
    if problem == "logistic":
        z = jnp.linspace(-2.0, 0.0, 5)
        f, outer = logistic(ridge)
        rate = 0.5

    @jax.jit
    def gradient(start):
        _, grads, info = hypergrad(
            outer, f, start, z, solver=sgd(rate), steps=1, diff=Implicit(), certify=True
        )
        return grads["z"], info.error_estimate

    solve = jax.jit(
        lambda start: jax.lax.fori_loop(0, 600, lambda _, y: y - rate * jax.grad(f)(y, z), start)
    )
    optimum = solve(ridge.start)
    truth, at_optimum = gradient(optimum)
    assert at_optimum < 1e-12
    in_range = 0
    for distance in 10.0 ** np.arange(-9.0, 1.0):
        found, estimate = gradient(optimum + distance * ridge.start)
        error = jnp.linalg.norm(found - truth)
        relative = error / jnp.linalg.norm(truth)
        if 1e-9 <= relative <= 1e-1:
            in_range += 1
            assert 0.5 <= estimate / error <= 2
        elif relative > 1e-1:
            assert 0.1 <= estimate / error <= 10
    assert in_range >= 5


DIM = 6
SOLVES = {
    "auto": AutoSolve(),
    "auto_iterative": AutoSolve(dense_size=0),
    "cg": CG(),
    "normal_cg": NormalCG(),
    "dense": Dense(),
    "least_squares": LeastSquares(),
    "neumann": Neumann(20),
}


SOME = ["auto", *(pytest.param(name, marks=pytest.mark.slow) for name in list(SOLVES)[1:])]


@pytest.mark.parametrize("moves", [False, True], ids=["set_stays", "set_turns"])
@pytest.mark.parametrize("name", SOME)
def test_of_more_parameters_than_data_the_estimate_is_never_too_small(name, moves):
    """Forty seeds of f = |X(z) y - t|^2 with X of shape (3, 6), at the shortest solution."""

    def f(y, z):
        scale = jnp.exp(z["z"] * z["c"]) if moves else jnp.ones(DIM)
        target = z["t"] if moves else z["z"] * z["t"]
        return 0.5 * jnp.sum(((z["X"] * scale) @ y - target) ** 2)

    @jax.jit
    def certified(y, z):
        outer = lambda y, z: 0.5 * jnp.sum((y - z["c"]) ** 2)
        options = {"solver": sgd(0.1), "steps": 0, "diff": Implicit(SOLVES[name]), "certify": True}
        _, grads, info = hypergrad(outer, f, y, z, **options)
        return grads["z"]["z"], info

    def solution(at, X, t, c):
        if moves:
            return np.linalg.pinv(X * np.exp(at * c)) @ t
        return np.linalg.pinv(X) @ (at * t)

    for seed in range(40):
        rng = np.random.default_rng(seed)
        X, t, c = rng.standard_normal((3, DIM)), rng.standard_normal(3), rng.standard_normal(DIM)
        value = lambda at, data=(X, t, c): 0.5 * np.sum((solution(at, *data) - data[2]) ** 2)
        step = 1e-5
        truth = (value(1 + step) - value(1 - step)) / (2 * step)
        z = {"X": X, "t": t, "c": c, "z": np.float64(1.0)}
        z = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float32"), z)
        found, info = certified(jnp.asarray(solution(1.0, X, t, c), "float32"), z)
        # finite differences are good to step**2; float32 to a few thousand roundings
        assert abs(float(found) - truth) <= float(info.error_estimate) + 1e-4 * abs(truth)
        assert jnp.isfinite(found)
        assert info.linear_residual > 0.01
        if name != "neumann":
            assert not info.converged
        if not moves and name not in ("cg", "neumann"):
            np.testing.assert_allclose(found, truth, rtol=1e-3, atol=1e-3)


def test_without_certify_and_for_exact_modes_there_is_no_estimate():
    ridge = make_ridge("float32")

    def estimate(mode, certify):
        return hypergrad(
            ridge.outer,
            ridge.f,
            ridge.start,
            -1.0,
            solver=sgd(0.2),
            steps=3,
            diff=mode,
            certify=certify,
        )[2].error_estimate

    assert jax.eval_shape(lambda: estimate(Implicit(), False)) is None
    assert jax.eval_shape(lambda: estimate(Unroll(), True)) is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SOME[:2] + SOME[5:6])
@pytest.mark.usefixtures("x64")
def test_the_estimate_bounds_the_error_at_every_condition_and_rank(name, dtype):
    f = lambda y, z: 0.5 * y @ (z["K"] @ y) - y @ (z["C"] @ z["z"])

    @jax.jit
    def certified(y, z, fixed):
        problem = lambda y, z: f(y, {**fixed, "z": z})
        outer = lambda y, _: 0.5 * jnp.sum((y - fixed["c"]) ** 2)
        options = {"solver": sgd(0.1), "steps": 0, "diff": Implicit(SOLVES[name]), "certify": True}
        _, grads, info = hypergrad(outer, problem, y, z, **options)
        return grads["z"], info

    finite, definite = 0, 0
    powers = (0, 2, 4, 6, 7, 12) if dtype == "float32" else (0, 4, 8, 10, 12, 17)
    for seed in range(48):
        rng = np.random.default_rng(seed)
        vectors, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
        rank = (DIM, DIM - 2, DIM, 0)[seed % 4]
        values = np.geomspace(1, 10.0 ** -powers[seed % 6], DIM) * (np.arange(DIM) < rank)
        if seed % 5 == 4:
            values[1] *= -1
        coefficients = vectors[:, :rank] @ rng.standard_normal((rank, 2))
        z = rng.standard_normal(2).astype(dtype)
        matrix = (vectors * values) @ vectors.T
        inverse = (vectors[:, :rank] / values[:rank]) @ vectors[:, :rank].T
        if rank == DIM and dtype == "float32":  # the rounded matrix is the one that is asked about
            inverse = np.linalg.inv(matrix.astype(dtype).astype(np.float64))
        y = inverse @ coefficients @ z
        pull = (
            vectors[:, :rank] @ rng.standard_normal(rank) if seed % 3 else rng.standard_normal(DIM)
        )
        truth = -coefficients.T @ (inverse @ pull)
        fixed = {"K": matrix, "C": coefficients, "c": y + pull}
        fixed = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), fixed)
        found, info = certified(jnp.asarray(y, dtype), jnp.asarray(z), fixed)
        error = np.linalg.norm(np.asarray(found, np.float64) - truth)
        # the estimate sees the rounding of one product with K, which may be smaller than others
        assert error <= 4 * float(info.error_estimate) + 1e-6 * np.linalg.norm(truth)
        finite += bool(jnp.isfinite(info.error_estimate))
        if info.is_definite is not None and name == "auto":
            definite += bool(info.is_definite)
            assert not (info.is_definite and (rank < DIM or seed % 5 == 4))
    # whatever is well-posed is not called infinite: conditions of up to 1e4, outer in the range
    assert finite >= 12
    if name == "auto":
        assert definite >= 5


@pytest.mark.slow
@pytest.mark.parametrize(("penalty", "is_determined"), [(0.0, True), (1e-8, False)])
def test_a_point_not_held_in_place_is_certified_by_what_does_not_depend_on_it(
    penalty, is_determined
):
    rng = np.random.default_rng(1)
    x, target = rng.normal(size=(2, 4)).astype(np.float32), np.float32([0.5, -1.0])
    fit = lambda w: jnp.asarray(x) @ w

    def inner(w, z):
        misfit = jnp.sum((fit(w) - z[:2]) ** 2)
        return 0.5 * (misfit + penalty * jnp.sum((w - z[2:]) ** 2))

    # of the outputs all is known, of the weights only what the outputs tell
    outer = lambda w, _: jnp.sum(fit(w) ** 3) if is_determined else jnp.sum(w**2)
    z = jnp.concatenate([jnp.asarray(target), jnp.ones(4)])
    with pytest.warns(HypergradientWarning, match="curve upwards"):
        _, grads, info = hypergrad(
            outer,
            inner,
            jnp.zeros(4),
            z,
            solver=sgd(0.1),
            steps=1000,
            diff=Implicit(),
            certify=True,
        )
    if is_determined:
        true = np.concatenate([3 * target**2, np.zeros(4)])
    else:  # in double precision, where the penalty is felt
        x = x.astype(float)
        hessian = x.T @ x + penalty * np.eye(4)
        adjoint = np.linalg.solve(
            hessian, 2 * np.linalg.solve(hessian, x.T @ target + penalty * np.ones(4))
        )
        true = np.concatenate([x @ adjoint, penalty * adjoint])
    error = np.linalg.norm(grads["z"] - true)
    assert error <= info.error_estimate
    assert (info.error_estimate < 1e-3) == is_determined
