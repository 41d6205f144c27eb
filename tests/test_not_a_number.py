"""What is not a number never becomes an answer: comparisons take it for something else."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import Implicit, Proximal, argmin
from jaxopt_tut.bilevel.layers import soft_threshold
from jaxopt_tut.linalg import (
    ball_minimum,
    cg,
    gmres,
    largest_eigenvalue,
    modified_cholesky_solve,
    neumann,
    newton_schulz,
    normal_cg,
    polar_factor,
    saddle_free_solve,
    truncated_cg,
)
from jaxopt_tut.optimizers import projections
from jaxopt_tut.optimizers.norms import L1, L2, LInf, Spectral

H = jnp.array([[2.0, 1.0], [1.0, 3.0]])
ROW = jnp.array([[1.0, 2.0]])
# of a vector of two, one of which is not a number: these lose both
COUPLED = {
    "ball": projections.ball(1.0),
    "l1_ball": projections.ball(1.0, L1()),
    "linf_ball": projections.ball(1.0, LInf()),
    "simplex": projections.simplex(),
    "affine": projections.affine(ROW, jnp.ones(1)),
    "hyperplane": projections.hyperplane(ROW[0], 1.0),
    "half_space": projections.half_space(ROW[0], 1.0),
    "l2_steepest": L2().steepest,
    "spectral_steepest": lambda g: Spectral().steepest(g[None]),
    "polar_factor": lambda g: polar_factor(jnp.stack([g, jnp.array([1.0, 2.0])])),
    "newton_schulz": lambda g: newton_schulz(jnp.stack([g, jnp.array([1.0, 2.0])])),
    "cg": lambda g: cg(lambda v: H @ v, g, tol=1e-3, max_steps=9).x,
    "normal_cg": lambda g: normal_cg(lambda v: H @ v, g, tol=1e-3, max_steps=9).x,
    "gmres": lambda g: gmres(lambda v: H @ v, g, tol=1e-3, max_steps=9).x,
    "truncated_cg": lambda g: truncated_cg(lambda v: H @ v, g, tol=1e-3, max_steps=9).step,
    "ball_minimum": lambda g: ball_minimum(H, g, 1.0).step,
    "neumann": lambda g: neumann(lambda v: H @ v, g, num_terms=3, step_size=0.2),
    "modified_cholesky_solve": lambda g: modified_cholesky_solve(H, g),
    "saddle_free_solve": lambda g: saddle_free_solve(H, g),
}
NORMS = [L1(), L2(), LInf(), Spectral(), Spectral(8)]
ELSEWHERE = {  # not a number in the matrix
    "cg": lambda h: cg(lambda v: h @ v, jnp.ones(2), tol=1e-3, max_steps=9).x,
    "normal_cg": lambda h: normal_cg(lambda v: h @ v, jnp.ones(2), tol=1e-3, max_steps=9).x,
    "gmres": lambda h: gmres(lambda v: h @ v, jnp.ones(2), tol=1e-3, max_steps=9).x,
    "largest_eigenvalue": lambda h: largest_eigenvalue(lambda v: h @ v, jnp.ones(2), num_steps=3),
    "polar_factor": polar_factor,
    "spectral_norm": Spectral().norm,
    "modified_cholesky_solve": lambda h: modified_cholesky_solve(h, jnp.ones(2)),
    "saddle_free_solve": lambda h: saddle_free_solve(h, jnp.ones(2)),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("name", COUPLED)
def test_one_bad_entry_leaves_no_finite_one(name, bad):
    if name == "simplex" and bad == -np.inf:
        return  # a coordinate that is left out
    out = COUPLED[name](jnp.array([bad, 4.0]))
    assert not jnp.isfinite(out).any() if np.isnan(bad) else not jnp.isfinite(out).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("norm", NORMS, ids=repr)
def test_norms_and_their_directions_show_what_is_not_finite(norm, bad):
    for shape in ((2,), (1, 2)):
        g = jnp.array([bad, 1.0]).reshape(shape)
        assert not jnp.isfinite(norm.norm(g))
        assert not jnp.isfinite(norm.dual_norm(g))
        assert not jnp.isfinite(norm.steepest(g)).all()
        if np.isnan(bad):
            assert jnp.isnan(norm.norm(g))


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("solve", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_bad_matrix_leaves_no_finite_answer(solve, bad):
    assert not jnp.isfinite(solve(H.at[0, 1].set(bad))).any()


def test_coordinatewise_maps_keep_a_bad_entry_in_its_place():
    x = jnp.array([jnp.nan, 4.0, -0.5])
    np.testing.assert_array_equal(projections.box(0.0, 1.0)(x), [np.nan, 1, 0])
    np.testing.assert_array_equal(soft_threshold(x, 1.0), [np.nan, 3, 0])
    np.testing.assert_array_equal(
        soft_threshold(x[1:], jnp.array([jnp.nan, 0.25])), [np.nan, -0.25]
    )


# the three ways in which users write it: the second takes what is not a number for 0
SHRINKS = {
    "ours": soft_threshold,
    "two_comparisons": lambda y, lam: jnp.where(
        y > lam, y - lam, jnp.where(y < -lam, y + lam, 0.0)
    ),
    "one_maximum": lambda y, lam: jnp.sign(y) * jnp.maximum(jnp.abs(y) - lam, 0.0),
}


@pytest.mark.parametrize("shrink", SHRINKS.values(), ids=SHRINKS)
def test_a_lasso_whose_data_have_a_hole_does_not_converge(shrink):
    data = jnp.array([[1.0, 2.0], [jnp.nan, 1.0], [0.5, 0.1]])
    misfit = lambda w, _: 0.5 * jnp.sum((data @ w - 1.0) ** 2)
    solver = Proximal(lambda y, z, rate: shrink(y, rate * z), 0.1)
    found = argmin(misfit, jnp.zeros(2), 0.1, solver=solver, steps=20, diff=Implicit())
    assert not found.info.converged
    assert jnp.isnan(found.info.inner_residual)
    assert jnp.isnan(found.y).any()
