"""The sharpness above which optimizers diverge, against their own recursions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.curvature import stability_limit
from jaxopt_tut.optimizers import adam, momentum, sgd

in_double = pytest.mark.usefixtures("x64")

FORMS = ("ema", "heavy_ball", "ema_nesterov", "nesterov")


def companion(form, beta, curvature, rate):
    """Return the matrix that takes (w, m) to the next, for the loss curvature * w**2 / 2."""
    share = 1 - beta if form.startswith("ema") else 1.0
    gradient = np.array([curvature, 0.0])
    average = np.array([share * curvature, beta])
    ahead = beta * average + share * gradient
    step = ahead if form.endswith("nesterov") else average
    return np.stack([np.array([1.0, 0.0]) - rate * step, average])


def radius(matrix):
    return np.abs(np.linalg.eigvals(matrix)).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9, 0.99])
def test_below_the_limit_the_recursion_shrinks_and_above_it_grows(form, beta):
    limit = float(stability_limit(0.07, momentum=beta, form=form))
    # at the limit an eigenvalue crosses -1 at a speed of order 1 - beta: 1e-3 is seen in float64,
    # and the limit itself has 1e-7 of float32
    assert radius(companion(form, beta, 0.999 * limit, 0.07)) < 1
    assert radius(companion(form, beta, 1.001 * limit, 0.07)) > 1


OPTIMIZERS = {
    "sgd": (lambda rate: sgd(rate), {}),
    "momentum": (lambda rate: momentum(rate, decay=0.8), {"momentum": 0.8}),
    "look ahead": (
        lambda rate: momentum(rate, decay=0.8, nesterov=True),
        {"momentum": 0.8, "form": "ema_nesterov"},
    ),
    "optax": (
        lambda rate: optax.sgd(rate, momentum=0.8),
        {"momentum": 0.8, "form": "heavy_ball"},
    ),
    "optax, look ahead": (
        lambda rate: optax.sgd(rate, momentum=0.8, nesterov=True),
        {"momentum": 0.8, "form": "nesterov"},
    ),
    # beside eps = 1 gradients of 1e-28 do not count: P is 1
    "adam": (lambda rate: adam(rate, b1=0.8, eps=1.0), {"form": "adam", "b1": 0.8}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@in_double
def test_the_optimizers_have_the_forms_that_the_docstring_says(name):
    build, given = OPTIMIZERS[name]
    limit = stability_limit(0.1, **given)
    optimizer = build(0.1)

    def size_after(curvature, num_steps):
        def step(carry, _):
            w, state = carry
            updates, state = optimizer.update(curvature * w, state, w)
            return (w + updates, state), jnp.abs(w)

        start = jnp.array(1e-30)
        return jax.lax.scan(step, (start, optimizer.init(start)), None, length=num_steps)[1]

    run = jax.jit(size_after, static_argnums=1)
    # the corrections of Adam's bias are over by then
    below, above = run(0.98 * limit, 1000)[500:], run(1.02 * limit, 1000)[500:]
    assert below[-100:].max() < below[:100].max()
    assert above[-100:].max() > above[:100].max()


def test_adam_at_its_defaults_is_stable_up_to_38_over_the_rate():
    # Cohen et al. (2022), section 1
    np.testing.assert_allclose(stability_limit(1e-3, form="adam"), 38_000, rtol=1e-6)


@pytest.mark.parametrize("form", [*FORMS, "adam"])
def test_the_limit_is_traced_and_has_the_shape_of_the_rate(form):
    rates = jnp.array([[0.1, 0.2, 0.4]])
    given = {"momentum": 0.5, "b1": 0.5, "form": form}
    limits = stability_limit(rates, **given)
    each = jax.vmap(lambda rate, beta: stability_limit(rate, momentum=beta, b1=beta, form=form))
    assert limits.shape == (1, 3)
    np.testing.assert_allclose(each(rates[0], jnp.full(3, 0.5)), limits[0], rtol=1e-6)
    # the limit is inversely proportional to the rate
    slopes = jax.jit(jax.vmap(jax.grad(lambda rate: stability_limit(rate, **given))))(rates[0])
    np.testing.assert_allclose(slopes, -limits[0] / rates[0], rtol=1e-6)


@in_double
def test_double_precision_stays():
    limit = stability_limit(jnp.array(0.1), momentum=0.9)
    assert limit.dtype == jnp.float64
    np.testing.assert_allclose(limit, 2 * 1.9 / 0.1 / 0.1, rtol=1e-14)
    assert stability_limit(jnp.array(0.1, jnp.float32)).dtype == jnp.float32
    assert stability_limit(1).dtype == jnp.float64


BAD = {
    "form": (
        {"form": "polyak"},
        "stability_limit needs a form among 'ema', 'heavy_ball', 'ema_nesterov', 'nesterov', "
        "'adam', got form='polyak'.",
    ),
    "momentum": (
        {"momentum": 1.0},
        "stability_limit needs 0 <= momentum < 1, got momentum=1.0.",
    ),
    "b1": ({"b1": -0.1}, "stability_limit needs 0 <= b1 < 1, got b1=-0.1."),
    "rate": (
        {"learning_rate": 0.0},
        "stability_limit needs learning_rate > 0, got learning_rate=0.0.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_it_refuses(name):
    given, sentence = BAD[name]
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        stability_limit(**{"learning_rate": 0.1, **given})
