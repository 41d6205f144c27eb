"""How solutions are shown: one, a batch, under a trace, in a notebook; they stay trees."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers import Status, bfgs, lbfgsb, minimize, sgd


def bowl(w):
    return jnp.sum((w - 3) ** 2)


def test_a_solution_is_a_readable_block():
    def fun(w):
        return bowl(w), {"distance": w - 3}

    bounds = (None, jnp.array([2.0, 9.0]))
    solution = minimize(
        fun, jnp.array([4.0, 3.0]), lbfgsb(), bounds=bounds, history=True, has_aux=True
    )
    assert repr(solution) == str(solution)
    assert str(solution).split("\n") == [
        "Solution",
        "  message      Converged: no component of the gradient is larger than gtol.",
        "  value        1",
        "  grad_norm    0",
        "  steps        0",
        "  evaluations  1",
        "  params       [2. 3.]",
        "  active       1 at the upper bound, of 2",
        "  start        moved into the bounds",
        "  history      1 point",
        "  aux          distance: [-1. 0.]",
    ]
    assert str(minimize(bowl, jnp.zeros(2), bfgs())).count("\n") == 6  # no row without content


def test_a_batch_is_shown_by_its_messages_and_the_spread_of_its_numbers():
    run = lambda w: minimize(bowl, w, sgd(0.1), max_steps=5, history=True)
    starts = jnp.array([[3.0, 3.0], [2.0, 4.0], [jnp.nan, 0.0], [0.0, 0.0]])
    batch = jax.vmap(run)(starts)
    lines = str(batch).split("\n")
    assert lines[0] == "Solution of 4 searches"
    assert lines[1] == (
        "  messages     2  Stopped: max_steps steps were made before the gradient was small."
    )
    assert lines[2].split()[:2] == ["1", "Converged:"]
    assert lines[3].split()[:2] == ["1", "Stopped:"]
    # each step leaves 0.8 of the way: 2 (0.8^5)^2 and 18 (0.8^5)^2, and 0 at the minimum
    assert (
        lines[4]
        == f"  value        min 0, median {2 * 0.8**10:.6g}, max {18 * 0.8**10:.6g}; 1 not finite"
    )
    assert "  params       float32[4,2]" in lines
    assert "  steps        min 0, median 2.5, max 5" in lines
    assert str(jax.vmap(jax.vmap(run))(starts.reshape(2, 2, 2))).startswith("Solution of 2 x 2 s")
    one = jax.tree.map(lambda leaf: leaf[3], batch)
    assert str(one).startswith("Solution\n  message      Stopped: max_steps")


@pytest.mark.untyped  # a tree of shapes or objects is no solution to a checker
def test_under_a_trace_the_shapes_are_shown():
    texts = []

    def run(w):
        solution = minimize(bowl, w, bfgs(), max_steps=4, history=True)
        texts.append(f"{solution}\n{solution.history}\n{solution.status}")
        return solution

    jax.jit(run)(jnp.zeros(2))
    jax.vmap(run)(jnp.zeros((7, 2)))
    texts.append(str(jax.eval_shape(run, jnp.zeros(2))))
    for text in texts:
        assert "value        float32[]" in text
        assert "params       float32[2]" in text
        assert "not known under a trace" in text
    assert "Status(int32[])" in texts[0]
    assert "params     float32[5,2]" in texts[0]


def test_a_history_is_shown_by_its_ends():
    history = minimize(bowl, jnp.zeros(2), sgd(0.5), history=True).history
    assert str(history).split("\n") == [
        "History of 2 points",
        "  value      18 at the start, 0 at the end",
        "  grad_norm  6 at the start, 0 at the end",
        "  params     float32[2,2]",
    ]


@pytest.mark.untyped  # a tree of shapes or objects is no solution to a checker
def test_a_status_is_shown_with_its_sentence():
    status = minimize(bowl, jnp.zeros(2), sgd(0.5)).status
    assert repr(status) == (
        "Status(0, 'Converged: no component of the gradient is larger than gtol.')"
    )
    assert repr(Status(np.array([0, 3]))) == "Status([0 3])"
    assert "no status has the code 77" in Status(np.int32(77)).message.lower()


@pytest.mark.untyped  # a tree of shapes or objects is no solution to a checker
@pytest.mark.parametrize(
    "change",
    [lambda _: object(), lambda _: 0, lambda leaf: leaf.shape, lambda leaf: leaf.astype(float)],
    ids=["object", "axes", "shape", "float"],
)
def test_trees_of_that_structure_are_shown_whatever_is_in_them(change):
    solution = minimize(bowl, jnp.zeros(2), lbfgsb(), bounds=(0, 1), history=True)
    changed = jax.tree.map(change, solution)
    for shown in (changed, changed.history):
        assert len(str(shown)) < 2000
        assert "<table>" in shown._repr_html_()


def test_a_large_solution_is_short():
    solution = minimize(bowl, jnp.zeros((300, 300)), sgd(0.5))
    assert len(str(solution)) < 1500
    tree = {f"layer{i}": jnp.zeros(3) for i in range(40)}
    solution = minimize(lambda t: sum(map(bowl, t.values())), tree, sgd(0.5))
    assert str(solution).count("\n") < 16


def test_a_notebook_gets_a_table_with_all_escaped():
    def fun(w):
        return bowl(w), {"<script>": w}

    solution = minimize(fun, jnp.zeros(2), sgd(0.5), has_aux=True)
    table = solution._repr_html_()
    assert "<script>" not in table
    assert "&lt;script&gt;: [3. 3.]" in table
    assert "Converged: no component" in table


def test_solutions_still_pass_through_jit():
    solution = minimize(bowl, jnp.zeros(2), sgd(0.5), history=True)
    again = jax.jit(lambda s: dataclasses.replace(s, value=2 * s.value))(solution)
    assert str(again).split("\n")[:2] == str(solution).split("\n")[:2]
    assert jax.tree.structure(again) == jax.tree.structure(solution)
