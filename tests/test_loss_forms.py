"""What a loss is called with is read off its signature."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut.loss_forms import read_form


def partial_of(key):
    def loss(params, batch, key):
        return params, batch, key

    return functools.partial(loss, key=key)


class Loss:
    """A loss that is an object."""

    def __call__(self, params, batch, rng):
        return params, batch, rng

    def method(self, params, batch, key, model_state):
        return params, batch, key, model_state


ONE_STATE = (True, None, ("STATE",), ("STATE",))

# loss, whether there is a state, what comes in behind parameters and batch: where a key is given,
# where there always is one, where there is none (None: refused)
CASES = {
    "two": (lambda p, b: (p, b), False, None, (), ()),
    "key": (lambda p, b, key: (p, b, key), False, ("KEY",), ("KEY",), None),
    "a third": (lambda p, b, rng: (p, b, rng), False, ("KEY",), ("KEY",), None),
    "a key or none": (lambda p, b, key=0: (p, b, key), False, ("KEY",), ("KEY",), (0,)),
    "a key by name": (lambda p, b, *, key: (p, b, key), False, ("KEY",), ("KEY",), None),
    "a key or none by name": (lambda p, b, *, key=0: (p, b, key), False, ("KEY",), ("KEY",), (0,)),
    "a key that is bound": (partial_of("OWN"), False, None, ("OWN",), ("OWN",)),
    "an option": (lambda p, b, rate=2: (p, b, rate), False, ("KEY",), (2,), (2,)),
    "a state": (lambda p, b, s: (p, b, s), True, None, ("STATE",), ("STATE",)),
    "a state by its name": (lambda p, b, model_state: (p, b, model_state), *ONE_STATE),
    "a state or none": (lambda p, b, state=None: (p, b, state), *ONE_STATE),
    "a state or none by name": (lambda p, b, *, model_state=None: (p, b, model_state), *ONE_STATE),
    "a state that is not there": (
        lambda p, b, model_state=0: (p, b, model_state), False, None, (0,), (0,)
    ),
    "both": (lambda p, b, k, s: (p, b, k, s), True, *[("KEY", "STATE")] * 2, None),
    "both by name": (
        lambda p, b, model_state, key: (p, b, key, model_state), True, *[("KEY", "STATE")] * 2, None
    ),
    "a key with another state": (
        lambda p, b, averages, key: (p, b, key, averages), True, *[("KEY", "STATE")] * 2, None
    ),
    "either or none": (
        lambda p, b, key=0, model_state=0: (p, b, key, model_state), True,
        ("KEY", "STATE"), ("KEY", "STATE"), (0, "STATE"),
    ),
    "an option before the state": (
        lambda p, b, rate=2, *, model_state: (p, b, rate, model_state), True,
        ("KEY", "STATE"), (2, "STATE"), (2, "STATE"),
    ),
    "a key before an option": (
        lambda p, b, rng, rate=2: (p, b, rng, rate), False, ("KEY", 2), ("KEY", 2), None
    ),
    "an object": (Loss(), False, ("KEY",), ("KEY",), None),
    "a method": (Loss().method, True, ("KEY", "STATE"), ("KEY", "STATE"), None),
    "any": (lambda *a: a, True, ("KEY", "STATE"), ("STATE",), ("STATE",)),
    "four": (lambda p, b, c, d: (p, b, c, d), False, None, None, None),
    "a state alone by its name": (lambda p, b, state: (p, b, state), False, None, None, None),
    "a key alone beside a state": (lambda p, b, key: (p, b, key), True, None, None, None),
    "one": (lambda p: p, False, None, None, None),
    "none": (lambda: 0, False, None, None, None),
}  # fmt: skip


def called(loss_fn, has_key, has_model_state):
    form = read_form("fit", loss_fn, has_key=has_key, has_model_state=has_model_state)
    params, batch, *rest = form.call(loss_fn, "PARAMS", "BATCH", "KEY", "STATE")
    assert (params, batch) == ("PARAMS", "BATCH")
    return tuple(rest)


@pytest.mark.parametrize("has_key", [True, None, False])
@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_called_with_what_it_takes(name, has_key):
    loss_fn, has_model_state, *expected = CASES[name]
    expected = expected[{True: 0, None: 1, False: 2}[has_key]]
    if expected is None:
        with pytest.raises(TypeError, match=r"^fit calls loss_fn\(params, batch.*got a loss of \("):
            called(loss_fn, has_key, has_model_state)
    else:
        assert called(loss_fn, has_key, has_model_state) == expected


@pytest.mark.parametrize(
    ("name", "has_key", "has_model_state", "sentence"),
    [
        ("key", False, False, "argument: 'key'; a key for a loss that draws is diagnose("),
        ("four", None, False, "(params, batch, key), got a loss of (p, b, c, d): missing a "
         "required argument: 'd'; its state is diagnose(..., model_state=)."),
        ("a state alone by its name", None, False, "'state'; its state is diagnose(..."),
        ("two", False, True, "diagnose calls loss_fn(params, batch, model_state), got a loss"),
        ("two", True, False, "loss_fn(params, batch, key), got a loss of (p, b): too many"),
        ("a key alone beside a state", None, True, "calls loss_fn(params, batch, key, "),
        ("one", False, False, "loss_fn(params, batch), got a loss of (p): too many"),
    ],
)  # fmt: skip
def test_a_wrong_count_is_told_in_a_sentence(name, has_key, has_model_state, sentence):
    given = {"has_key": has_key, "has_model_state": has_model_state}
    with pytest.raises(TypeError, match=re.escape(sentence)):
        read_form("diagnose", CASES[name][0], **given)


def test_a_compiled_or_wrapped_loss_is_read_through():
    def loss(params, batch, key):
        return params, batch, key

    wrapped = functools.wraps(loss)(lambda *args: loss(*args))
    assert called(wrapped, None, False) == ("KEY",)
    assert read_form("fit", jax.jit(loss), has_key=None, has_model_state=False).takes_key


def test_a_function_without_a_signature_gets_what_is_given():
    assert read_form("fit", jnp.add, has_key=None, has_model_state=False).positional == ()
    assert read_form("fit", max, has_key=True, has_model_state=True).positional == (
        "key",
        "model_state",
    )
