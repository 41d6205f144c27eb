"""Saddles are roots of a game's field: their place, their derivative, their value's derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import Broyden, Implicit, Newton, NewtonKrylov, hypergrad, root

SOLVERS = {"newton": Newton(), "broyden": Broyden(), "krylov": NewtonKrylov()}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
MATRIX = np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 1.5]])  # three numbers against two
PULL, PUSH = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.7])
START = {"x": jnp.zeros(3), "y": jnp.zeros(2)}


def game(players, z):
    """Return a convex-concave quadratic, whose saddle is the solution of a linear system."""
    x, y = players["x"], players["y"]
    cast = lambda array: jnp.asarray(array, x.dtype)
    return x @ x / 2 + z * (x @ cast(MATRIX) @ y) - y @ y + cast(PULL) @ x - cast(PUSH) @ y


def field(players, z):
    grads = jax.grad(game)(players, z)
    return {"x": grads["x"], "y": -grads["y"]}


def exact(z):
    """Return the saddle and its derivative in z, in NumPy."""
    turn = np.block([[np.zeros((3, 3)), MATRIX], [-MATRIX.T, np.zeros((2, 2))]])
    jacobian = np.diag([1.0, 1, 1, 2, 2]) + z * turn
    players = -np.linalg.solve(jacobian, np.concatenate([PULL, PUSH]))
    return players, -np.linalg.solve(jacobian, turn @ players)


def flat(players):
    return jnp.concatenate([players["x"], players["y"]])


@each_solver
@pytest.mark.parametrize("is_double", [False, True], ids=["float32", "float64"])
def test_finds_the_saddle_and_its_derivative(solver, is_double):
    with jax.enable_x64(is_double):
        dtype = jnp.float64 if is_double else jnp.float32
        start = jax.tree.map(lambda leaf: leaf.astype(dtype), START)
        saddle = lambda z: flat(root(field, start, z, solver=solver, steps=30).y)
        z = jnp.asarray(0.8, dtype)
        found = jax.jvp(saddle, (z,), (jnp.ones_like(z),))
        # The system's condition number is below ten; NewtonKrylov's inner solves leave as much.
        rtol = 100 * float(jnp.finfo(dtype).eps)
        for ours, theirs in zip(found, exact(0.8), strict=True):
            scale = np.linalg.norm(theirs)
            np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=rtol)


def test_the_value_changes_as_the_game_does_with_the_players_held_fixed():
    with jax.enable_x64(True):
        start = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), START)
        value, grads, info = hypergrad(
            game, field, start, jnp.asarray(0.8), solver=Newton(), steps=5, diff=Implicit()
        )
        x, y = np.split(exact(0.8)[0], [3])
        np.testing.assert_allclose(grads["z"], x @ MATRIX @ y, rtol=1e-13)
        assert info.converged
        expected = x @ x / 2 + 0.8 * x @ MATRIX @ y - y @ y + PULL @ x - PUSH @ y
        np.testing.assert_allclose(value, expected, rtol=1e-13)


def test_many_games_are_played_at_once():
    strengths = jnp.array([0.0, 0.5, 2.0])
    saddles = jax.vmap(lambda z: flat(root(field, START, z, solver=Newton(), steps=5).y))(strengths)
    np.testing.assert_allclose(saddles, [exact(float(z))[0] for z in strengths], atol=3e-6)


def test_newton_is_done_with_a_bilinear_game_after_one_step_from_anywhere():
    def bilinear(players, z):
        for_x, for_y = jax.grad(lambda w: w[0] @ z @ w[1])(players)
        return for_x, -for_y

    start = (jnp.array([300.0, -2.0]), jnp.array([1.0, 40.0]))
    result = root(bilinear, start, jnp.asarray([[1.0, 2.0], [0.0, 1.0]]), solver=Newton(), steps=1)
    # eps times the condition number, 6, of the start's size
    assert max(jnp.abs(leaf).max() for leaf in result.y) <= 300 * 20 * np.finfo(np.float32).eps
    assert result.info.converged == (result.info.inner_residual <= 1e-4)


def test_a_game_without_a_saddle_is_flagged():
    def runaway(players, z):
        x, y = players
        return x + 0 * y - z, jnp.ones_like(y)  # the second player gains for ever

    assert not root(
        runaway, (jnp.zeros([]), jnp.zeros([])), 1.0, solver=Newton(), steps=9
    ).info.converged
