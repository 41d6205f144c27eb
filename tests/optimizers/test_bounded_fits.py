"""Least squares under bounds, beside what SciPy's `least_squares(bounds=)` finds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, lsq_linear

from jaxopt_tut.optimizers import gauss_newton, levenberg_marquardt, minimize
from tests.peers.nist_problems import load

FITS = load()
T = np.linspace(0.5, 4.0, 8)
INF = np.inf


def fit(residual_fn, start, bounds, **options):
    half = lambda w: 0.5 * sum(jnp.sum(r**2) for r in jax.tree.leaves(residual_fn(w)))
    optimizer = options.pop("optimizer", levenberg_marquardt())
    return minimize(half, start, optimizer, residual_fn=residual_fn, bounds=bounds, **options)


def decay(w):
    return w[0] * jnp.exp(-w[1] * T.astype(w.dtype)) - (2 * np.exp(-0.7 * T)).astype(w.dtype)


def cut(name, place):
    """Return bounds with the near start, but not the certified parameters, in them."""
    start, end = FITS[name].starts[1], FITS[name].certified
    lower, upper = np.full(len(end), -INF), np.full(len(end), INF)
    bound = (start[place] + end[place]) / 2
    (upper if start[place] < end[place] else lower)[place] = bound
    return lower, upper


# some with a parameter cut off that all others follow; one on which SciPy takes 1000 steps
CUT = [("BoxBOD", 0), ("BoxBOD", 1), ("DanWood", 0), ("MGH10", 2), ("Misra1a", 1), ("Rat43", 0)]
MORE = [
    *(("Chwirut2", 2), ("Eckerle4", 0), ("Kirby2", 0), ("Lanczos3", 5), ("MGH09", 3)),
    *(("MGH10", 0), ("MGH17", 4), ("Nelson", 0), ("Rat42", 2), ("Thurber", 6)),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "place"), [*CUT, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)]
)
def test_a_fit_whose_solution_is_cut_off_is_as_good_as_scipys(name, place):
    problem = FITS[name]
    lower, upper = cut(name, place)
    ours = fit(problem.residuals, jnp.array(problem.starts[1]), (lower, upper))
    assert ours.converged
    assert abs(ours.active[place]) == 1
    assert np.all((lower <= ours.params) & (ours.params <= upper))
    value, slope = jax.jit(problem.residuals), jax.jit(jax.jacfwd(problem.residuals))
    for method in ("trf", "dogbox"):
        theirs = least_squares(
            lambda b: np.asarray(value(b)),
            problem.starts[1],
            jac=lambda b: np.asarray(slope(b)),
            bounds=(lower, upper),
            method=method,
            max_nfev=100,
            **dict.fromkeys(("xtol", "ftol", "gtol"), 1e-12),
        )
        # the offset that is left, 5e-8 of the residuals, counts squared; what rounds the data
        # counts where the residuals are small
        noise = 1e-15 * np.linalg.norm(problem.y) * np.sqrt(2 * theirs.cost)
        assert ours.value <= theirs.cost * (1 + 1e-12) + 10 * noise


@functools.cache
def linear_solver(dtype):
    residuals = lambda w, a, b: a @ w - b
    half = lambda w, a, b: 0.5 * jnp.sum(residuals(w, a, b) ** 2)
    return jax.jit(
        lambda a, b, lower, upper: minimize(
            half,
            jnp.zeros(4, dtype),
            levenberg_marquardt(),
            *(a, b),
            residual_fn=residuals,
            bounds=(lower, upper),
        )
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["float32", "float64"]))
def test_random_linear_fits_end_at_the_only_minimum(seed, dtype):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(6, 4)), 3 * rng.normal(size=6)
    lower = np.where(rng.random(4) < 0.3, -INF, -rng.exponential(size=4))
    upper = np.where(rng.random(4) < 0.3, INF, lower.clip(-1) + rng.exponential(size=4))
    with jax.enable_x64(dtype == "float64"):
        arrays = (jnp.asarray(x, dtype) for x in (a, b, lower, upper))
        ours = linear_solver(dtype)(*arrays)
    theirs = lsq_linear(a, b, (lower, upper), tol=1e-14)
    assert ours.converged
    # the offset left is sqrt(10 eps) of the residuals; A turns it into parameters
    least = np.linalg.svd(a, compute_uv=False)[-1]
    atol = 10 * np.sqrt(np.finfo(dtype).eps) * np.linalg.norm(b) / least
    np.testing.assert_allclose(ours.params, theirs.x, atol=atol)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("bounds", "end", "active"),
    [
        ((None, None), [2.0, 0.7], [0, 0]),
        ((-INF, INF), [2.0, 0.7], [0, 0]),
        ((0.0, None), [2.0, 0.7], [0, 0]),
        ((None, [INF, 0.7]), [2.0, 0.7], None),  # the solution is on the bound, with no force
        (([0.5, 0.3], [0.5, 0.3]), [0.5, 0.3], [2, 2]),
        (([-INF, 0.3], [INF, 0.3]), None, [0, 2]),
        ((5.0, 6.0), None, None),  # the start is outside
    ],
    ids=str,
)
def test_every_kind_of_box_is_kept(bounds, end, active):
    solution = fit(decay, jnp.array([1.0, 0.5]), bounds)
    assert solution.converged
    if end is not None:
        np.testing.assert_allclose(solution.params, end, rtol=1e-7)
    if active is not None:
        np.testing.assert_array_equal(solution.active, active)
    low, high = (
        np.broadcast_to(x if x is not None else s * INF, 2)
        for x, s in zip(bounds, (-1, 1), strict=True)
    )
    w = np.asarray(solution.params)
    assert np.all((low <= w) & (w <= high))
    grad = jax.grad(lambda w: 0.5 * jnp.sum(decay(w) ** 2))(solution.params)
    np.testing.assert_allclose(w, np.clip(w - grad, low, high), atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_bounds_may_be_traced_and_mapped_and_trees():
    tree = lambda w: {"a": w["a"], "b": [w["b"]]}
    residuals = lambda w: decay(jnp.stack([w["a"], w["b"][0]]))
    start = tree({"a": jnp.array(1.0), "b": jnp.array(0.5)})

    def solve(upper):
        return fit(residuals, start, (None, {"a": upper, "b": [None]}))

    uppers = jnp.array([0.5, 1.5, 3.0])
    many = jax.jit(jax.vmap(solve))(uppers)
    for k, upper in enumerate(uppers):
        one = fit(decay, jnp.array([1.0, 0.5]), (None, jnp.array([upper, INF])))
        found = many.params["a"][k], many.params["b"][0][k]
        np.testing.assert_allclose(found, one.params, rtol=1e-7)
    np.testing.assert_array_equal(many.active["a"], [1, 1, 0])
    assert np.all(many.converged)


@pytest.mark.usefixtures("x64")
def test_infinite_bounds_change_no_step():
    run = lambda bounds: fit(decay, jnp.array([1.0, 3.0]), bounds, history=True)
    free, bounded = run(None), run((-INF, INF))
    assert free.steps == bounded.steps
    np.testing.assert_allclose(free.history.params, bounded.history.params, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_parameter_without_hold_at_its_bound_is_no_failure():
    # the best amplitude within bounds is 0, which leaves nothing to the rate
    residuals = lambda w: w[0] * jnp.exp(-w[1] * T) + 1.0
    solution = fit(residuals, jnp.array([1.0, 1.0]), (0.0, 1.5))
    assert solution.converged
    assert solution.active[0] == -1
    np.testing.assert_allclose(solution.value, len(T) / 2)


def test_gauss_newton_under_bounds_names_who_keeps_them():
    with pytest.raises(ValueError, match=r"minimize under bounds needs .*levenberg_marquardt\(\)"):
        fit(decay, jnp.ones(2), (0.0, 1.0), optimizer=gauss_newton())


def test_a_bounded_step_in_a_loop_of_ones_own_stays_within():
    optimizer, w = levenberg_marquardt(initial_radius=100.0), jnp.array([1.0, 0.5])
    state = optimizer.init(w)
    for _ in range(5):
        u, state = optimizer.update(w, state, w, residual_fn=decay, bounds=(0.0, 1.2))
        w = w + u
        assert np.all((w >= 0) & (w <= np.float32(1.2) * (1 + 1e-6)))
    np.testing.assert_allclose(w[0], 1.2, rtol=1e-6)
