"""What `step` refuses comes in a sentence, whatever the optimizer."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.optimizers import step

PARAMS = {"w": jnp.array([1.0, 2.0]), "none": None}
OPTIMIZERS = {
    "adam": optax.adam(0.1),
    "polyak": optax.polyak_sgd(),
    "a search": optimizers.bfgs(),
    "accumulated": optax.MultiSteps(optax.sgd(0.1), 2),
}


def loss(params):
    return jnp.sum(params["w"] ** 2)


GRAD = jax.grad(loss)(PARAMS)


def take(optimizer=None, value_fn=loss, params=PARAMS, state=None, **options):
    optimizer = OPTIMIZERS["adam"] if optimizer is None else optimizer
    state = optimizer.init(params) if state is None else state
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        return step(optimizer, value_fn, params, state, **options)


VALUES = {
    "complex": (lambda p: loss(p) * 1j, "complex64[]"),
    "complex, with a real derivative": (lambda p: loss(p) * (1 + 1j), "complex64[]"),
    "of an axis": (lambda p: loss(p)[None], "float32[1]"),
    "vector": (lambda p: p["w"], "float32[2]"),
    "empty": (lambda p: p["w"][:0], "float32[0]"),
    "integer": (lambda p: jnp.round(loss(p)).astype(int), "int32[]"),
    "truth value": (lambda p: loss(p) > 0, "bool[]"),
    "integer of Python": (lambda _: 3, "int"),
    "complex number of Python": (lambda _: 3j, "complex"),
    "nothing": (lambda _: None, "NoneType"),
    "list": (lambda p: [loss(p)], "list"),
    "dictionary": (lambda p: {"loss": loss(p)}, "dict"),
    "three": (lambda p: (loss(p), {}, {}), "a tuple (float32[], dict, dict)"),
    "pair without a loss": (lambda p: ({}, loss(p)), "a tuple (dict, float32[])"),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", VALUES)
def test_only_real_scalars_are_descended(name, optimizer):
    value_fn, found = VALUES[name]
    sentence = f"step needs value_fn to return a real scalar, got {found}."
    with pytest.raises(ValueError, match=re.escape(sentence)):
        take(OPTIMIZERS[optimizer], value_fn)


def test_a_search_with_all_known_refuses_them_too():
    """It evaluates the function elsewhere."""
    with pytest.raises(ValueError, match=r"step needs value_fn to return a real scalar, got int32"):
        take(OPTIMIZERS["a search"], lambda _: jnp.int32(3), known=(loss(PARAMS), GRAD))


@pytest.mark.parametrize("aux", [{}, None, 1.0, jnp.ones(3)])
def test_of_a_loss_with_more_beside_it_the_sentence_says_how_to_keep_that(aux):
    with pytest.raises(
        ValueError, match=r"has_aux=True.* known=\(value, optax.tree.conj\(grad\)\)\.(\n|$)"
    ):
        take(value_fn=lambda p: (loss(p), aux))


@pytest.mark.parametrize("value", [2.0, np.float64(2), np.float32(2), jnp.bfloat16(2)])
def test_a_real_scalar_of_any_kind_will_do(value):
    assert take(value_fn=lambda _: value).value == 2
    assert take(known=(value, GRAD)).value == 2


@pytest.mark.parametrize(
    ("known", "error", "sentence"),
    [
        ((loss(PARAMS),), TypeError, "a pair (value, grad) as known, got a tuple (float32[])."),
        (loss(PARAMS), TypeError, "a pair (value, grad) as known, got float32[]."),
        ((GRAD, loss(PARAMS)), ValueError, "real scalar as the value in known, got dict."),
        (((1.0, {}), GRAD), ValueError, "in known, got a tuple (float, dict)."),
        ((1.0, {"v": jnp.ones(2)}), ValueError, "as the parameters, got 'v' for 'w'."),
        ((1.0, None), ValueError, "as the parameters, got '(no leaf)' for 'w'."),
        ((1.0, {**GRAD, "x": 1.0}), ValueError, "as the parameters, got 'x' for '(no leaf)'."),
        ((1.0, {"w": GRAD["w"]}), ValueError, "got PyTreeDef({'w': *}) for PyTreeDef("),
        ((1.0, {"w": jnp.ones(3)}), ValueError, "got shape (3,) for (2,) at 'w'."),
        ((1.0, {"w": jnp.ones(())}), ValueError, "got shape () for (2,) at 'w'."),
        ((1.0, {"w": jnp.ones((2, 1))}), ValueError, "got shape (2, 1) for (2,) at 'w'."),
        (
            (1.0, {**GRAD, "w": jnp.ones((5, 2))}),
            ValueError,
            "got shape (5, 2) for (2,) at 'w': the",
        ),
    ],
)
@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optimizers.sgd(0.1)], ids=["optax", "ours"])
def test_what_is_known_belongs_to_the_parameters(known, error, sentence, optimizer):
    with pytest.raises(error, match=re.escape(sentence)):
        take(optimizer, known=known)


def test_the_gradients_of_the_examples_are_for_those_who_ask():
    private = optax.contrib.differentially_private_aggregate(1e3, 0.0, key=jax.random.key(0))
    optimizer = optax.chain(private, optax.sgd(0.5))
    each = {"w": jnp.array([[1.0, 2.0], [3.0, 6.0]]), "none": None}
    after = take(optimizer, known=(1.0, each))
    # half the mean of both, none of which is clipped
    np.testing.assert_allclose(after.params["w"], PARAMS["w"] - jnp.array([1.0, 2.0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (optax.sgd(0.1).init(PARAMS), "'(no leaf)' for '0/count'"),
        (optax.sgd(0.1, momentum=0.9).init(PARAMS), "'0/trace/w' for '0/count'"),
        (optax.adam(0.1).init({"v": jnp.ones(2)}), "'0/mu/v' for '0/mu/w'"),
        (optax.adam(0.1).init({"w": jnp.ones(3)}), "shape (3,) for (2,) at '0/mu/w'"),
        (3, "'(root)' for '0/count'"),
        ((), "'(no leaf)' for '0/count'"),
    ],
)
def test_the_state_belongs_to_the_optimizer_and_the_parameters(state, found):
    sentence = f"step needs the state of its optimizer, got {found}: it belongs to another"
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        take(state=state)
    assert caught.value.__cause__ is not None


def test_a_state_that_broadcasts_is_refused_by_what_it_leads_to():
    state = optax.sgd(0.1, momentum=0.9).init({"w": jnp.ones((5, 2)), "none": None})
    with pytest.raises(ValueError, match=r"step needs updates as the parameters, got .*\(5, 2\)"):
        take(optax.sgd(0.1, momentum=0.9), state=state)


@pytest.mark.parametrize("params", [3, {"w": jnp.arange(2)}, {"w": jnp.ones(2) > 0}])
def test_parameters_without_a_derivative_are_refused(params):
    with pytest.raises(TypeError, match=r"step needs floating or complex parameters, got (int|bo)"):
        take(optax.sgd(0.1), lambda _: 1.0, params)


@pytest.mark.parametrize("name", ["value", "grad", "grad_fn", "obj_fn"])
def test_names_of_what_is_handed_over_anyway_are_taken(name):
    with pytest.raises(TypeError, match=f"step hands over '{name}' itself; what is known of it"):
        take(**{name: loss})


@pytest.mark.parametrize("thing", [3.0, None, "loss", PARAMS, jnp.ones(2)])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(TypeError, match=r"^step needs a function as value_fn, got "):
        take(value_fn=thing)
    with pytest.raises(TypeError, match=r"^step needs a function as residual_fn, got "):
        take(residual_fn=thing)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyError("w"), TypeError("+")])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_error_of_the_function_is_raised_after_one_call(error, optimizer):
    calls = []

    def failing(params):
        calls.append(1)
        if len(calls) == 1:
            raise error
        return loss(params)

    with pytest.raises(type(error)) as caught:
        take(OPTIMIZERS[optimizer], failing)
    assert caught.value is error
    assert len(calls) == 1
