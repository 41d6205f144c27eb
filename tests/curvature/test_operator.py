"""The algebra of operators, their blocks, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.curvature import blocks, hessian, linear_map, symmetry_error

MATRIX = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, -2.0]], np.float32)
LIKE = {"a": jnp.zeros(1), "b": {"c": jnp.zeros(2)}}
EPS = 1.2e-7


def quadratic(params, matrix):
    vector = jnp.concatenate([params["a"], params["b"]["c"]])
    return vector @ matrix @ vector / 2


def multiply(tree, matrix):
    vector = jnp.concatenate([tree["a"], tree["b"]["c"]])
    product = matrix @ vector
    return {"a": product[:1], "b": {"c": product[1:]}}


OPERATORS = {
    "hessian": hessian(quadratic, LIKE, MATRIX),
    "linear_map": linear_map(multiply, LIKE, jnp.asarray(MATRIX)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_sums_multiples_and_scaled_coordinates_are_those_of_matrices(name):
    op = OPERATORS[name]
    scale = np.array([4.0, 9.0, 0.25], np.float32)
    root = np.diag(np.sqrt(scale))
    tree = {"a": scale[:1], "b": {"c": scale[1:]}}
    cases = [
        (op + 2 * op, 3 * MATRIX),
        (op - op * 0.5, MATRIX / 2),
        (-op, -MATRIX),
        (sum([op, op]), 2 * MATRIX),
        (op / 4, MATRIX / 4),
        (op / jnp.float32(4), MATRIX / 4),
        (np.float32(2) * op, 2 * MATRIX),
        (jnp.float32(2) * op, 2 * MATRIX),
        (op.preconditioned(scale), root @ MATRIX @ root),
        (op.preconditioned(tree), root @ MATRIX @ root),
        (op.preconditioned(4.0), 4 * MATRIX),
        ((op.preconditioned(scale) + op).cached(), root @ MATRIX @ root + MATRIX),
    ]
    for made, want in cases:
        np.testing.assert_allclose(made.to_dense(), want, rtol=4 * EPS, atol=4 * EPS)
        np.testing.assert_allclose(made.matvec(np.ones(3)), want.sum(1), rtol=0, atol=99 * EPS)


@pytest.mark.parametrize("name", OPERATORS)
def test_blocks_are_those_of_the_matrix(name):
    for op, want in [
        (OPERATORS[name], MATRIX),
        (OPERATORS[name].cached() + OPERATORS[name], 2 * MATRIX),
        (OPERATORS[name].preconditioned(4.0) * 0.5, 2 * MATRIX),
    ]:
        for by, ranges in [
            ("layer", {"(root)": slice(0, 1), "b": slice(1, 3)}),
            ("leaf", {"a": slice(0, 1), "b/c": slice(1, 3)}),
            ({"b*": "last"}, {"last": slice(1, 3)}),
            ({"a": "all", "*": "all"}, {"all": slice(0, 3)}),
        ]:
            found = blocks(op, by)
            assert list(found) == list(ranges)
            for key, cut in ranges.items():
                np.testing.assert_allclose(found[key].to_dense(), want[cut, cut], rtol=4 * EPS)
                (block,) = blocks(found[key], {"*": "same"}).values()
                np.testing.assert_allclose(block.to_dense(), want[cut, cut], rtol=4 * EPS)


def test_trees_come_back_as_trees_and_vectors_as_vectors():
    op = OPERATORS["hessian"]
    tree = op.unravel(jnp.arange(3.0))
    product = op.matvec(tree)
    assert jax.tree.structure(product) == jax.tree.structure(LIKE)
    np.testing.assert_allclose(product["b"]["c"], (MATRIX @ np.arange(3.0))[1:], rtol=4 * EPS)
    assert op.matvec(np.arange(3.0)).shape == (3,)
    assert op.matmat(np.zeros((0, 3))).shape == (0, 3)


@given(st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_products_are_linear_and_symmetric(seed):
    u, v = jax.random.normal(jax.random.key(seed), (2, 3))
    op = OPERATORS["hessian"] + OPERATORS["linear_map"].preconditioned(0.5)
    # sums of a dozen products of the order of 10 round by some eps each
    np.testing.assert_allclose(u @ op.matvec(v), v @ op.matvec(u), atol=1e3 * EPS)
    np.testing.assert_allclose(
        op.matvec(2 * u - v), 2 * op.matvec(u) - op.matvec(v), atol=1e3 * EPS
    )


def test_a_symmetric_operator_has_no_symmetry_error_but_rounding():
    for op in OPERATORS.values():
        assert symmetry_error(op, jax.random.key(0)) < 20 * EPS
        assert jax.jit(symmetry_error)(op, jax.random.key(0)) < 20 * EPS


DRAW = np.random.default_rng(0)


def noise_of_numpy(params, _):
    """Draw when it is traced."""
    return jnp.sum(jnp.asarray(DRAW.normal(size=9), jnp.float32) * params**2)


def noise_of_a_callback(params, _):
    """Draw when it runs."""
    draw = lambda: DRAW.normal(size=9).astype(np.float32)
    noise = jax.pure_callback(draw, jax.ShapeDtypeStruct((9,), jnp.float32))
    return jnp.sum(noise * params**2)


class Augmented:
    """Yields other data whenever it is asked."""

    def __iter__(self):
        yield DRAW.normal(size=(4, 9)).astype(np.float32)


FRESH = {
    "numpy in the loss": lambda: hessian(noise_of_numpy, jnp.ones(9), None),
    "a callback": lambda: hessian(noise_of_a_callback, jnp.ones(9), None),
    "the host": lambda: hessian(lambda w, x: jnp.mean((x @ w) ** 2), jnp.ones(9), Augmented()),
}


@pytest.mark.parametrize("name", FRESH)
def test_fresh_randomness_is_found(name):
    # rounding makes 1e-6, and two vectors of nine random numbers seldom agree to 1e-3
    assert symmetry_error(FRESH[name](), jax.random.key(1)) > 1e-3
    assert symmetry_error(2.0 * FRESH[name](), jax.random.key(1)) > 1e-3


def scalar_loss(params, _):
    return jnp.sum(params["a"] ** 2)


HESSIAN = OPERATORS["hessian"]
MISTAKES = {
    "length": (
        lambda: HESSIAN.matvec(np.ones(4)), ValueError,
        "matvec needs a vector of length 3, or a tree like the parameters, got shape (4,).",
    ),
    "integers": (
        lambda: HESSIAN.matvec(np.arange(3)), TypeError,
        "matvec needs a vector of real numbers, got int64.",
    ),
    "another tree": (
        lambda: HESSIAN.matvec({"a": jnp.zeros(1), "b": {"d": jnp.zeros(2)}}), ValueError,
        "matvec needs trees with the same leaves, got 'b/c' on one side and 'b/d' on the other.",
    ),
    "another shape": (
        lambda: HESSIAN.matvec({"a": jnp.zeros(1), "b": {"c": jnp.zeros(3)}}), ValueError,
        "matvec needs leaves of the same shape, got (2,) at 'b/c' and (3,) at 'b/c'.",
    ),
    "integers in a tree": (
        lambda: HESSIAN.matvec({"a": jnp.zeros(1), "b": {"c": jnp.zeros(2, int)}}), TypeError,
        "matvec needs floating or complex parameters, got int32 at 'b/c'.",
    ),
    "columns": (
        lambda: HESSIAN.matmat(np.ones((3, 2))), ValueError,
        "matmat needs vectors as rows, an array of shape [k, 3], got shape (3, 2).",
    ),
    "at once": (
        lambda: HESSIAN.matmat(np.ones((2, 3)), at_once=0), ValueError,
        "matmat needs at_once >= 1, got at_once=0.",
    ),
    "scale of zero": (
        lambda: HESSIAN.preconditioned(np.array([1.0, 0.0, 2.0])), ValueError,
        "preconditioned needs positive numbers as scale, got 0.0.",
    ),
    "negative scale": (
        lambda: HESSIAN.preconditioned(-2.0), ValueError,
        "preconditioned needs positive numbers as scale, got -2.0.",
    ),
    "size of scale": (
        lambda: HESSIAN.preconditioned(np.ones(2)), ValueError,
        "preconditioned needs a vector of length 3, or a tree like the parameters, got shape "
        "(2,).",
    ),
    "factor": (
        lambda: "2" * HESSIAN, TypeError,
        "a multiple of an operator needs a real number as factor, got factor='2'.",
    ),
    "another space": (
        lambda: HESSIAN + hessian(scalar_loss, {"a": 1.0}, None), ValueError,
        "a sum of operators needs leaves of the same shape, got (1,) at 'a' and () at 'a'.",
    ),
    "by": (
        lambda: blocks(HESSIAN, "layers"), ValueError,
        "blocks needs by=\"layer\", \"leaf\" or a mapping of patterns, got by='layers'.",
    ),
    "pattern": (
        lambda: blocks(HESSIAN, {"w*": "x"}), ValueError,
        "blocks needs patterns that match a leaf, got 'w*' and the leaves a, b/c.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_says_what_is_wrong(name):
    make, error, sentence = MISTAKES[name]
    with pytest.raises(error) as info:
        make()
    assert str(info.value) == sentence


def test_operators_print_what_they_are():
    assert str(HESSIAN) == "Hessian [3, 3]\n  data  3 in 1 chunk"
    assert "linearised" in str(HESSIAN.cached())
    assert str(OPERATORS["linear_map"]) == "Linear map multiply [3, 3]"
