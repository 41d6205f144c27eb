"""How results are shown: the solution and how good it is, without pages of states."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut.bilevel import Broyden, root


def run(z):
    return root(lambda y, z: y**2 - z, jnp.ones(50), z, solver=Broyden(), steps=9)


def test_a_result_is_short_and_says_whether_it_is_good():
    result = run(2.0)
    text = str(result)
    assert repr(result) == text
    assert len(text) < 1000  # the state of 50 x 50 numbers alone has more
    assert text.startswith("Result\n  y               float32[50]\n")
    assert f"  converged       {bool(result.info.converged)}" in text
    assert f"  inner_residual  {float(result.info.inner_residual):.6g}" in text
    assert repr(result.info) == str(result.info)
    assert str(result.info) in text.replace("Result", "Info").replace(
        "\n".join(text.split("\n")[1:3]) + "\n", ""
    )


@pytest.mark.untyped  # a tree of shapes or objects is no result to a checker
def test_a_batch_and_a_trace_are_shown_too():
    assert "converged       [ True  True" in str(jax.vmap(run)(jnp.arange(1.0, 4.0)))
    shapes = str(jax.eval_shape(run, 1.0))
    assert "y               float32[50]" in shapes
    assert "converged       bool[]" in shapes
    assert str(jax.tree.map(lambda _: object(), run(1.0))).startswith("Result\n")
