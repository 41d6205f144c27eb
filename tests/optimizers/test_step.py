"""`step` hands every optimizer what it asks for, and no more than it takes."""

import inspect
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.optimizers import line_search, projections, step

PARAMS = {"kernel": jnp.array([[1.0, -2.0], [0.5, 1.5]]), "bias": jnp.array([0.25, -0.5])}
TARGET = {"kernel": jnp.array([[3.0, 1.0], [-1.0, 2.0]]), "bias": jnp.array([1.0, 0.0])}
SGD = optax.sgd(0.05)


def bowl(params):
    squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), params, TARGET)
    return squares["kernel"] + 5 * squares["bias"]


# what factories need besides their defaults, by the names of their arguments
OPTIMIZERS = ("base_optimizer", "fast_optimizer", "inner", "opt", "optimizer", "tx")
LIMITS = ("clipping", "eta", "gamma", "l2_norm_clip", "max_delta", "max_norm", "threshold")
SMALL = ("decay", "learning_rate", "noise_multiplier", "slow_step_size")
COUNTS = ("every_k_schedule", "max_consecutive_errors", "sync_period", "seed")
ARGUMENTS = {
    **dict.fromkeys((*OPTIMIZERS, "adv_optimizer", "transformation"), SGD),
    **dict.fromkeys(LIMITS, 1.0),
    **dict.fromkeys(SMALL, 0.05),
    **dict.fromkeys((*COUNTS, "max_backtracking_steps", "max_linesearch_steps"), 9),
    "f": lambda updates, *_: updates,
    "freeze_mask": False,
    "inner_factory": optax.sgd,
    "mask": True,
    "measure": lambda updates: updates,
    "measure_name": "norm",
    "param_labels": "all",
    "projection": projections.ball(10.0),
    "should_transform_fn": lambda count: count > 1,
    "step_size": -0.05,
    "step_size_fn": optax.constant_schedule(-0.05),
    "transforms": {"all": SGD},
}
VARIADIC = ("args", "kwargs", "extra_kwargs")


def is_optimizer(thing):
    return callable(getattr(thing, "init", None)) and callable(getattr(thing, "update", None))


def made(name, factory):
    """Build an optimizer with whatever arguments it needs; None if the factory makes none."""
    makes_one = "GradientTransformation" in str(inspect.signature(factory).return_annotation)
    parameters = inspect.signature(factory).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty]
    if name in ("chain", "named_chain"):
        return factory(SGD if name == "chain" else ("only", SGD))
    if not set(needed) <= {*ARGUMENTS, *VARIADIC} and not makes_one:
        return None  # a loss or a schedule
    try:
        with warnings.catch_warnings(action="ignore"):  # where noise gets no key
            found = factory(**{one: ARGUMENTS[one] for one in needed if one not in VARIADIC})
    except TypeError:
        if makes_one:
            raise
        return None
    if name.startswith("inject"):
        found = found(learning_rate=0.05)
    return found if is_optimizer(found) else None


def every_optimizer():
    found = {}
    for room in (optax, optax.contrib, optimizers, line_search):
        for name, factory in vars(room).items():
            is_factory = inspect.isfunction(factory) and not name.startswith("_")
            # `scale_by_muon` is for matrices alone: `muon` masks it
            if (is_factory and name != "scale_by_muon") or name == "MultiSteps":
                label = f"{room.__name__.removeprefix('jaxopt_tut.')}.{name}"
                if (optimizer := made(name, factory)) is not None:
                    found[label] = optimizer
    return found


NEEDS_MORE = {
    "optimizers.gauss_newton": "asks for 'residual_fn'",
    "optimizers.levenberg_marquardt": "asks for 'residual_fn'",
    "optimizers.scale_by_gauss_newton": "asks for 'residual_fn'",
    "optax.lookahead": r"step needs optax.LookaheadParams.init_synced\(params\) as parameters",
    "optax.contrib.differentially_private_aggregate": "asks for one of each example",
    "optax.contrib.dpsgd": "asks for one of each example",
}
EVERY = every_optimizer()


def test_the_table_of_optimizers_finds_those_that_ask_for_something():
    assert len(EVERY) > 130
    asking = "MultiSteps polyak_sgd lbfgs scale_by_zoom_linesearch scale_by_backtracking_linesearch"
    assert {f"optax.{name}" for name in asking.split()} <= set(EVERY)
    asking = "sam momo momo_adam reduce_on_plateau sophia prodigy dog mechanize schedule_free"
    assert {f"optax.contrib.{name}" for name in asking.split()} <= set(EVERY)
    asking = "newton trust_region gauss_newton line_search.wolfe line_search.exact"
    assert {f"optimizers.{name}" for name in asking.split()} <= set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_every_optimizer_takes_a_step_or_says_what_it_lacks(name):
    optimizer = EVERY[name]

    def run(params):
        return step(optimizer, bowl, params, optimizer.init(params))

    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        if name in NEEDS_MORE:
            with pytest.raises((TypeError, ValueError), match=NEEDS_MORE[name]):
                jax.eval_shape(run, PARAMS)
            return
        found = jax.eval_shape(run, PARAMS)
    like = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jax.tree.all(jax.tree.map(like, found.params, PARAMS))


def asking(*names, strict=False):
    """Build an optimizer that takes some extra arguments by name and returns them as its state."""
    kinds = inspect.Parameter
    parameters = [kinds(n, kinds.POSITIONAL_OR_KEYWORD) for n in ("updates", "state", "params")]
    parameters += [kinds(name, kinds.KEYWORD_ONLY) for name in names]
    parameters += [] if strict else [kinds("extra_args", kinds.VAR_KEYWORD)]
    signature = inspect.Signature(parameters)

    def update(*args, **extra_args):
        bound = signature.bind(*args, **extra_args)
        return bound.arguments["updates"], {name: bound.arguments[name] for name in names}

    update.__signature__ = signature
    return optax.GradientTransformationExtraArgs(lambda _: {}, update)


def test_the_value_and_the_gradient_are_those_of_where_it_came_from():
    after = step(optimizers.sgd(0.125), bowl, PARAMS, optimizers.sgd(0.125).init(PARAMS))
    # the gradient is 2 (w - t), ten times that for the bias: each part goes a quarter of its way
    gap = jax.tree.map(np.subtract, PARAMS, TARGET)
    np.testing.assert_allclose(
        after.value, np.sum(gap["kernel"] ** 2) + 5 * np.sum(gap["bias"] ** 2)
    )
    np.testing.assert_allclose(after.grad["kernel"], 2 * gap["kernel"])
    np.testing.assert_allclose(after.grad["bias"], 10 * gap["bias"])
    np.testing.assert_allclose(after.params["kernel"], PARAMS["kernel"] - gap["kernel"] / 4)
    np.testing.assert_allclose(after.params["bias"], PARAMS["bias"] - 1.25 * gap["bias"])


def test_nothing_is_evaluated_where_all_is_known():
    def never(_):
        raise AssertionError("evaluated")

    grad = jax.tree.map(jnp.ones_like, PARAMS)
    optimizer = optax.polyak_sgd(max_learning_rate=100.0)
    after = step(optimizer, never, PARAMS, optimizer.init(PARAMS), known=(jnp.array(3.0), grad))
    # six ones: a step of value / |g|^2 = 1/2
    np.testing.assert_array_equal(after.params["bias"], PARAMS["bias"] - 0.5)
    assert after.grad is grad


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("chained", [False, True], ids=["alone", "chained"])
def test_an_optimizer_gets_what_it_takes(strict, chained):
    for names in (("value",), ("grad", "value_fn"), ("grad_fn", "value"), ("obj_fn",), ("norm",)):
        optimizer = asking(*names, strict=strict)
        if chained:
            optimizer = optax.chain(optax.clip(1.0), optimizer)
        after = step(
            optimizer,
            bowl,
            PARAMS,
            optimizer.init(PARAMS),
            norm=lambda params: optax.tree.norm(params),
        )
        value, grad = jax.value_and_grad(bowl)(PARAMS)
        right = {"value": value, "grad": grad, "value_fn": value, "grad_fn": grad, "obj_fn": value}
        right["norm"] = optax.tree.norm(PARAMS)
        handed = after.state[-1] if chained else after.state
        assert set(handed) == set(names)
        for name, thing in handed.items():
            thing = thing(PARAMS) if callable(thing) else thing
            jax.tree.map(np.testing.assert_array_equal, thing, right[name])


def test_an_optimizer_whose_first_argument_is_called_grad_gets_it_once():
    def update(grad, state, params, *, value, **extra_args):
        assert params is not None
        assert not {"value", "params"} & set(extra_args)
        return jax.tree.map(lambda g: -g * value, grad), state

    optimizer = optax.GradientTransformationExtraArgs(lambda _: (), update)
    for one in (optimizer, optax.chain(optimizer)):
        after = step(one, lambda w: w**2, jnp.array(3.0), one.init(0.0))
        assert after.params == 3 - 6 * 9


def wanting(*names):
    """Build an optimizer that needs some arguments by name, as a function says it."""
    update = lambda updates, state, _=None, *, labels: (updates, state)  # noqa: ARG005
    if len(names) == 2:
        update = lambda updates, state, _=None, *, labels, weights: (updates, state)  # noqa: ARG005
    return optax.GradientTransformationExtraArgs(lambda _: (), update)


BEHIND_A_MASK = optax.masked(optax.lbfgs(), {"kernel": True, "bias": False})
REFUSALS = {
    "unknown": (
        optax.chain(wanting("labels")),
        "step hands over value, grad, value_fn, grad_fn and obj_fn; the optimizer asks for "
        "'labels'.",
    ),
    "two unknown": (wanting("labels", "weights"), "the optimizer asks for 'labels' and 'weights'."),
    "links at odds": (
        optax.chain(asking("grad_fn", strict=True), optax.polyak_sgd()),
        "step hands the same to all links of a chain; one asks for 'value', and another does not "
        "take it.",
    ),
    "kept back": (
        optax.chain(optax.clip(1.0), optax.MultiSteps(optax.polyak_sgd(), 2)),
        "step hands over 'value'; the optimizer has a part that asks for it, and around it one "
        "that does not hand it on",
    ),
    "kept back from a solver": (
        optax.contrib.sam(optimizers.bfgs(), SGD),
        "step hands over 'value_fn'; the optimizer has a part that asks for it",
    ),
    "behind a mask": (
        BEHIND_A_MASK,
        "step hands over the whole gradient; a line search of optax behind a mask takes its part "
        "of it where mask_compatible_extra_args=True.",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_handed_over_has_a_sentence(name):
    optimizer, sentence = REFUSALS[name]
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises((TypeError, ValueError), match="^.*" + re.escape(sentence)),
    ):
        step(optimizer, bowl, PARAMS, optimizer.init(PARAMS))


@pytest.mark.parametrize("chained", [False, True], ids=["alone", "chained"])
def test_a_compiled_update_gets_no_functions(chained):
    polyak = optax.polyak_sgd()
    optimizer = optax.GradientTransformationExtraArgs(polyak.init, jax.jit(polyak.update))
    optimizer = optax.chain(optax.identity(), optimizer) if chained else optimizer
    after = step(optimizer, lambda w: w**2, jnp.array(4.0), optimizer.init(jnp.array(4.0)))
    assert after.params == 2


@pytest.mark.parametrize(
    "message",
    [
        "loss() got an unexpected keyword argument 'value'",
        "loss() missing 1 required keyword-only argument: 'labels'",
    ],
)
def test_a_fault_of_the_function_is_not_laid_to_the_optimizer(message):
    def loss(_):
        raise TypeError(message)

    optimizer = optax.chain(optax.sgd(1.0), line_search.armijo())
    grad = jax.tree.map(jnp.ones_like, PARAMS)
    with pytest.raises(TypeError) as caught:
        step(optimizer, loss, PARAMS, optimizer.init(PARAMS), known=(jnp.array(1.0), grad))
    assert str(caught.value) == message


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match=r"got a function: call it, adam\(\.\.\.\)\."):
        step(optax.adam, bowl, PARAMS, ())
    with pytest.raises(TypeError, match=r"step needs an optax transformation .* got 0\.1\."):
        step(0.1, bowl, PARAMS, ())


def test_lookahead_descends_with_its_pair_of_parameters():
    optimizer = optax.lookahead(optax.sgd(0.25), sync_period=2, slow_step_size=0.5)
    params = optax.LookaheadParams.init_synced(jnp.array(8.0))
    state = optimizer.init(params)
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies flags and numbers
        for _ in range(2):
            params, state, *_ = step(optimizer, lambda pair: pair.fast**2, params, state)
    # 8 -> 4 -> 2, and half-way from 8 to there
    assert params.slow == 5
    assert params.fast == 5


def complex_distance(z):
    return jnp.sum(jnp.array([1.0, 10.0]) * jnp.abs(z - (1 + 2j)) ** 2)


@pytest.mark.parametrize(
    "search",
    [
        line_search.wolfe(),
        optax.scale_by_zoom_linesearch(20),
        optax.scale_by_backtracking_linesearch(20, slope_rtol=0.5),
    ],
    ids=["wolfe", "zoom", "backtracking"],
)
def test_searches_see_the_right_slope_in_the_complex_plane(search):
    optimizer = optax.chain(optax.sgd(1.0), search)
    z = jnp.array([0j, 1 - 2j])
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies real and complex numbers
        after = step(optimizer, complex_distance, z, optimizer.init(z))
    moved = after.params - z
    slope = np.sum(np.real(np.conj(after.grad) * moved))
    decrease = complex_distance(after.params) - complex_distance(z)
    # half of what the slope promises at least, for backtracking; the others ask for less
    share = 0.5 if "backtracking" in str(search.update) else 1e-4
    assert slope < 0
    assert decrease <= share * slope


def test_differentiable_keeps_the_extra_arguments_of_multi_steps():
    optimizer = optimizers.differentiable(optax.MultiSteps(optax.polyak_sgd(), 1))
    with jax.numpy_dtype_promotion("standard"):  # optax divides numbers by counts
        after = step(optimizer, lambda w: w**2, jnp.array(4.0), optimizer.init(jnp.array(4.0)))
    assert after.params == 2


def test_steps_are_scanned_mapped_and_differentiated():
    def end(rate, start):
        optimizer = optimizers.sgd(rate)
        follow = lambda carry, _: (step(optimizer, lambda w: w**2, *carry)[:2], None)
        return jax.lax.scan(follow, (start, optimizer.init(start)), length=3)[0][0]

    # w (1 - 2 r)^3
    rates, starts = jnp.array([0.125, 0.25]), jnp.array([1.0, 2.0])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jax.grad(end)))(rates, starts), -6 * starts * (1 - 2 * rates) ** 2
    )
