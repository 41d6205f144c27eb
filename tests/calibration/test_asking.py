"""Arguments of the wrong kind are refused in one sentence."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.calibration import auto_init, gradinit, lsuv, metainit

X = jnp.ones((8, 3))
PARAMS = {"w": jnp.ones((3, 2))}
METHODS = {"auto_init": auto_init, "lsuv": lsuv, "metainit": metainit, "gradinit": gradinit}


def loss(params, x):
    return jnp.mean((x @ params["w"]) ** 2)


def init(key):
    return {"w": jax.random.normal(key, (3, 2))}


ARGUMENTS = {
    "an iterator": (PARAMS, iter([X]), "a batch with arrays, got list_iterator: hand in one batch"),
    "a generator": (PARAMS, (x for x in [X]), "a batch with arrays, got generator: hand in one"),
    "no batch": (PARAMS, None, "a batch with arrays, got None."),
    "an integer": (PARAMS, 3, "a batch with arrays, got int."),
    "lists": (PARAMS, [[1.0, 2.0, 3.0]] * 2, "got list: make arrays of it with jax.numpy.asarray."),
    "no parameters": ({}, X, "parameters with arrays, got dict."),
    "None": (None, X, "parameters with arrays, got None."),
    "uncalled init": (init, X, "got a function: call it, init(...), and hand in what it returns."),
}


@pytest.mark.parametrize("case", ARGUMENTS)
@pytest.mark.parametrize("name", METHODS)
def test_what_holds_no_arrays_is_refused(name, case):
    params, batch, message = ARGUMENTS[case]
    with pytest.raises(TypeError, match=rf"^{name} needs .*{re.escape(message)}"):
        METHODS[name](jax.random.key(0), loss, params, batch)


@pytest.mark.parametrize("name", ["auto_init", "lsuv"])
@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (0, "int"),
        (None, "None"),
        (np.int32(3), "int32[]"),
        (jnp.zeros(2, jnp.uint32), "uint32[2]"),
        (jax.random.split(jax.random.key(0)), "key<fry>[2]"),
    ],
    ids=["seed", "None", "number", "raw key", "two keys"],
)
def test_a_key_of_another_kind_is_refused(name, key, kind):
    message = f"{name} needs one typed key, such as jax.random.key(0), got {kind}."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        METHODS[name](key, loss, PARAMS, X)


def with_more(params, batch, key, rate, depth):
    return loss(params, batch) + rate * depth * jax.random.normal(key)


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_of_other_arguments_is_refused_with_the_recipe(name):
    message = re.escape(
        f"{name} calls with_more(params, batch), and it takes (params, batch, key, rate, depth): "
        "wrap it, as in lambda params, batch: with_more(params, batch, key, rate, depth)."
    )
    with pytest.raises(TypeError, match=f"^{message}$"):
        METHODS[name](jax.random.key(0), with_more, PARAMS, X)
    with pytest.raises(
        TypeError, match=rf"^{name} calls loss\(params, batch, model_state\), and it"
    ):
        METHODS[name](jax.random.key(0), loss, PARAMS, X, model_state={"mean": jnp.ones(3)})
    with pytest.raises(TypeError, match=rf"^{name} needs a function, got float32\[8, 3\]\.$"):
        METHODS[name](jax.random.key(0), X, PARAMS, X)


def test_options_with_defaults_and_auxiliary_values_are_fine():
    def with_aux(params, x, *, scale=1.0, **options):
        del options
        return scale * loss(params, x), {"size": jnp.sum(x)}

    x = jax.random.normal(jax.random.key(1), (64, 3))
    assert lsuv(jax.random.key(0), with_aux, PARAMS, x)[1].converged
