"""Callbacks: when they are called and with what, how they stop a search, and how they fail."""

import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers import Progress, bfgs, lbfgsb, minimize, sgd

START = np.array([-1.2, 1.0])


def rosenbrock(w):
    return jnp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)


def bowl(w):
    return jnp.sum((w - 3) ** 2)


def watched(every, **options):
    seen = []
    solution = minimize(
        bowl, jnp.zeros(2), sgd(0.1), callback=seen.append, callback_every=every, **options
    )
    return seen, solution


@pytest.mark.parametrize(
    ("every", "steps"),
    [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6, 7]), (7, [7]), (2**40, [7]), (np.int64(5), [5, 7])],
)
def test_is_called_every_so_many_steps_and_after_the_last(every, steps):
    seen, _ = watched(every, max_steps=7)
    assert [progress.step for progress in seen] == steps
    # each step leaves 0.8 of the way
    distances = [3 * 0.8**step for step in steps]
    for progress, distance in zip(seen, distances, strict=True):
        assert isinstance(progress, Progress)
        assert (type(progress.step), type(progress.value)) == (int, float)
        np.testing.assert_allclose(progress.params, 3 - distance, rtol=1e-5)
        assert progress.value == pytest.approx(2 * distance**2, rel=1e-5)
        assert progress.grad_norm == pytest.approx(2 * distance, rel=1e-5)


def test_is_not_called_where_no_step_is_made():
    assert watched(1, max_steps=0)[0] == []


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", [bfgs, lbfgsb], ids=["bfgs", "lbfgsb"])
def test_the_search_is_that_without_a_callback(make):
    options = {"history": True, "max_steps": 100}
    if make is lbfgsb:
        options["bounds"] = (None, 0.5)
    seen = []
    alone = minimize(rosenbrock, START, make(), **options)
    other = minimize(rosenbrock, START, make(), **options, callback=seen.append, callback_every=3)
    assert int(other.status) == int(alone.status) == 0
    assert (other.steps, other.evaluations) == (alone.steps, alone.evaluations)
    # the same operations in another program, which may fuse them otherwise; the valley multiplies
    # the rounding of 1e-16 by the condition 2500 of its floor, and some steps
    for one, two in zip(jax.tree.leaves(alone), jax.tree.leaves(other), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-8)
    for progress in seen:
        np.testing.assert_array_equal(progress.params, other.history.params[progress.step])
        assert progress.value == other.history.value[progress.step]


def raising(error):
    raise error


STOPPING = {
    "True": lambda progress: progress.step == 2,
    "numpy": lambda progress: np.float32(progress.step) >= 2,
    "jax": lambda progress: jnp.sum(progress.params) > 2,  # 0.6 * 2 after a step, 1.08 * 2 after 2
    "StopIteration": lambda progress: raising(StopIteration()) if progress.step == 2 else None,
}


@pytest.mark.parametrize("callback", STOPPING.values(), ids=STOPPING)
def test_may_ask_to_stop(callback):
    solution = minimize(bowl, jnp.zeros(2), sgd(0.1), callback=callback, history=True)
    assert (int(solution.steps), bool(solution.converged)) == (2, False)
    assert solution.message == "Stopped: the callback asked for it."
    assert int(solution.status) == 9
    np.testing.assert_allclose(solution.history.value, [18, 18 * 0.64, 18 * 0.64**2], rtol=1e-5)


def test_what_has_converged_is_not_stopped():
    solution = minimize(
        bowl, jnp.zeros(2), sgd(0.5), callback=lambda progress: progress.grad_norm < 1e-4
    )
    assert int(solution.status) == 0


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_what_it_raises_comes_through_with_the_step(error):
    with pytest.raises(type(error)) as caught:
        minimize(
            bowl,
            jnp.zeros(2),
            sgd(0.1),
            callback=lambda progress: raising(error) if progress.step == 3 else None,
        )
    assert caught.value is error
    (note,) = error.__notes__
    assert "callback of minimize after step 3" in note
    # an ordinary traceback, down to the line of the user
    assert traceback.extract_tb(error.__traceback__)[-1].name == "raising"


def test_jax_may_be_used_on_large_parameters_and_searches_nest():
    """In a callback out of XLA both wait for the thread that waits for them."""
    sums = []

    def callback(progress):
        sums.append(float(jnp.sum(jnp.sort(progress.params) * 2.0)))
        inner = minimize(bowl, progress.params[:2], bfgs(), callback=lambda _: None)
        return bool(inner.converged) and progress.step == 2

    minimize(bowl, jnp.zeros(10**6), sgd(0.25), callback=callback)
    np.testing.assert_allclose(sums, [3e6, 4.5e6], rtol=1e-5)


@pytest.mark.untyped  # the closures of an optimizer are wrapped anew each time it is made
def test_another_callback_or_number_of_steps_compiles_nothing():
    traces = []

    def fun(w, scale):
        traces.append(1)
        return scale * jnp.sum((w - 1) ** 4)

    def run(scale, callback, every, **options):
        minimize(fun, 1.0, bfgs(), scale, callback=callback, callback_every=every, **options)

    run(1.0, lambda _: None, 1)
    first = len(traces)
    run(2.0, [].append, 1)
    run(1.0, lambda _: False, 4, max_steps=20, gtol=1e-3)
    assert first > 0
    assert len(traces) == first


TRACING = {
    "jit": jax.jit,
    "vmap": jax.vmap,
    "jvp": lambda run: lambda w: jax.jvp(run, (w,), (w,)),
}


@pytest.mark.parametrize("transform", TRACING.values(), ids=TRACING)
def test_under_a_trace_it_is_refused_with_what_to_write(transform):
    run = lambda w: minimize(bowl, w, sgd(0.1), callback=lambda _: None).params
    with pytest.raises(ValueError, match=r"callback between programs, .* history=True there"):
        transform(run)(jnp.ones((2, 2)))


def test_a_traced_value_within_the_loss_is_seen_too():
    run = lambda z: minimize(lambda w: bowl(w - z), 0.0, sgd(0.1), callback=lambda _: None).value
    with pytest.raises(ValueError, match="callback between programs"):
        jax.vmap(run)(jnp.ones(2))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"callback": 1}, TypeError, r"a function callback\(progress\), got callback=1\."),
        ({"callback": lambda _: 0.25}, TypeError, "True to stop, or False or None .* got 0.25"),
        ({"callback": lambda _: [1]}, TypeError, r"got \[1\]"),
        ({"callback_every": 0}, ValueError, "an integer callback_every >= 1, got callback_every=0"),
        ({"callback_every": 1.5}, ValueError, "callback_every=1.5"),
        ({"callback_every": True}, ValueError, "callback_every=True"),
    ],
)
def test_bad_callbacks_are_refused_in_a_sentence(options, error, message):
    with pytest.raises(error, match=f"minimize needs .*{message}"):
        minimize(bowl, jnp.zeros(2), sgd(0.1), **options)
