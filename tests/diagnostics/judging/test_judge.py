"""Healthy networks that are unlike others, and the right cause for those that are not healthy."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut.diagnostics import diagnose
from jaxopt_tut.diagnostics.judging.forward import Arrival, _evidence

X = jax.random.normal(jax.random.key(0), (64, 16))
KEYS = jax.random.split(jax.random.key(1), 8)
SQUARE = [jax.random.normal(key, (16, 16)) for key in KEYS]


def verdicts(loss_fn, params, x=X):
    return [(one.kind, one.layer) for one in diagnose(loss_fn, params, x).verdicts]


def loss_of(apply):
    return lambda params, x: jnp.mean((apply(params, x) - jnp.sin(x)) ** 2)


def ntk(params, x):
    for weight in params[:-1]:
        x = jax.nn.relu(math.sqrt(2 / 16) * (x @ weight))
    return x @ params[-1] / 4


def equalized(params, x):
    for weight in params[:-1]:
        x = jax.nn.relu(x @ (weight * math.sqrt(2 / 16)))
    return x @ (params[-1] / 4)


def normalised(params, x):
    unit = lambda weight: weight / jnp.linalg.norm(weight, axis=0)
    for weight in params[:-1]:
        x = jax.nn.relu(x @ (1.4 * unit(weight)))
    return x @ unit(params[-1])


@pytest.mark.parametrize("apply", [ntk, equalized, normalised])
def test_weights_of_size_one_that_are_scaled_on_the_way_are_healthy(apply):
    assert verdicts(loss_of(apply), SQUARE[:3]) == []


@pytest.mark.parametrize("apply", [ntk, equalized])
@pytest.mark.parametrize(("factor", "kind"), [(10.0, "exploding"), (0.1, "vanishing")])
def test_what_is_wrong_is_found_behind_the_scaling_too(apply, factor, kind):
    params = [SQUARE[0], factor * SQUARE[1], SQUARE[2]]
    assert (kind, "1") in verdicts(loss_of(apply), params)
    (fix,) = (one.fix for one in diagnose(loss_of(apply), params, X).verdicts if one.layer == "1")
    assert fix.startswith("multiply the weights, or what scales them, by ")
    # To variance 2 / n for what reads a rectifier.
    assert float(fix.split()[-1]) == pytest.approx(1 / factor, rel=0.15)


def mlp(params, x):
    for weight in params[:-1]:
        x = jax.nn.relu(x @ weight)
    return x @ params[-1]


def test_weights_of_zero_are_called_so_and_not_dead_units():
    found = diagnose(loss_of(mlp), [0 * weight for weight in SQUARE[:3]], X).verdicts
    assert [(one.kind, one.layer) for one in found] == [("symmetric", k) for k in "012"]
    for one in found:
        assert one.evidence == "all weights are zero, and so are their gradients"
        assert "at random" in one.fix


@pytest.mark.parametrize("zeros", [[2], []], ids=["last layer", "none"])
def test_a_last_layer_of_zeros_is_meant(zeros):
    weights = [jnp.sqrt(2 / 16) * weight for weight in SQUARE[:3]]
    params = [0 * weight if k in zeros else weight for k, weight in enumerate(weights)]
    assert verdicts(loss_of(mlp), params) == []


def test_a_branch_that_starts_at_zero_is_meant():
    def residual(params, x):
        for up, down in zip(params[::2], params[1::2], strict=True):
            x = x + jax.nn.relu(x @ up) @ down
        return x

    params = [
        jnp.sqrt(2 / 16) * SQUARE[0],
        0 * SQUARE[1],
        jnp.sqrt(2 / 16) * SQUARE[2],
        SQUARE[3] / 4,
    ]
    assert verdicts(loss_of(residual), params) == []


def test_a_modulation_of_zeros_before_a_readout_of_zeros_is_meant():
    def modulated(params, x):
        stem, modulation, inner, readout = params
        h = x @ stem
        return (h + (x @ modulation) * jnp.tanh(h @ inner)) @ readout

    params = [SQUARE[0] / 4, 0 * SQUARE[1], SQUARE[2] / 4, 0 * SQUARE[3]]
    assert verdicts(loss_of(modulated), params) == []


@pytest.mark.parametrize("bend", [jnp.tanh, jax.nn.sigmoid])
def test_zeros_in_a_row_are_not_meant(bend):
    # behind a sigmoid the readout learns, all of whose inputs are 1/2: the units stay equal
    def net(params, x):
        for weight in params[:-1]:
            x = bend(x @ weight)
        return x @ params[-1]

    params = [SQUARE[0] / 4, 0 * SQUARE[1], 0 * SQUARE[2]]
    assert ("symmetric", "1") in verdicts(loss_of(net), params)


@pytest.mark.parametrize("bend", [jax.nn.relu, jnp.tanh, jax.nn.sigmoid])
def test_a_stopped_gradient_is_no_saturation(bend):
    def apply(params, x):
        stopped = bend(jax.lax.stop_gradient(x @ params["stopped"]))
        return stopped @ params["head"]

    params = {"head": SQUARE[0] / 4, "stopped": SQUARE[1] / 4}
    assert verdicts(loss_of(apply), params) == []


def test_true_saturation_is_found_still():
    loss = loss_of(lambda params, x: jnp.tanh(x @ params[0]) @ params[1])
    assert ("saturated", "0") in verdicts(loss, [2 * SQUARE[0], SQUARE[1] / 4])


def one_hot_loss(weight, tokens):
    return jnp.mean((jax.nn.one_hot(tokens, 40) @ weight) ** 2)


def test_a_table_read_through_one_hot_vectors_is_healthy():
    tokens = jax.random.randint(jax.random.key(3), (64, 5), 0, 40)
    assert verdicts(one_hot_loss, jax.random.normal(jax.random.key(4), (40, 16)), tokens) == []


def attend(params, x):
    """Attention over 32 tokens, whose average hardly depends on queries and keys."""
    query, key, value = (x @ params[name] for name in ("q", "k", "v"))
    return jax.nn.softmax(query @ key.mT / 4) @ value


@pytest.mark.parametrize("gain", [1.0, 1 / 3], ids=["flax", "equinox"])
def test_queries_and_keys_may_hear_less_than_values(gain):
    params = {name: math.sqrt(gain / 16) * w for name, w in zip("qkv", SQUARE[:3], strict=True)}
    x = jax.random.normal(jax.random.key(5), (16, 32, 16))
    loss = lambda params, x: jnp.mean((attend(params, x).mean(1) - x[:, 0]) ** 2)
    assert verdicts(loss, params, x) == []


def cell_params(recurrent=1.0, forget=0.0, gain=1.0):
    keys = jax.random.split(jax.random.key(6), 3)
    orthogonal = jax.nn.initializers.orthogonal()
    return {
        "b": jnp.zeros(64).at[16:32].set(forget),
        "head": jax.random.normal(keys[2], (16, 4)) / 4,
        "u": recurrent * jnp.concatenate([orthogonal(k, (16, 16)) for k in KEYS[:4]], axis=1),
        "w": math.sqrt(gain / 16) * jax.random.normal(keys[0], (16, 64)),
    }


def lstm_loss(params, xs):
    def step(state, x):
        c, h = state
        i, f, g, o = jnp.split(x @ params["w"] + h @ params["u"] + params["b"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), None

    zeros = jnp.zeros((xs.shape[1], 16))
    (_, h), _ = jax.lax.scan(step, (zeros, zeros), xs)
    return jnp.mean((h @ params["head"] - xs[0, :, :4]) ** 2)


XS = jax.random.normal(jax.random.key(7), (28, 32, 16))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("params", "layers", "fixes"),
    [
        (cell_params(), [], []),
        (cell_params(gain=1 / 3), [], []),
        (cell_params(recurrent=1 / 20), ["u"], ["orthogonal"]),
        (cell_params(forget=-6.0, recurrent=0.3), ["w", "u"], ["forget gate at 1", "orthogonal"]),
    ],
    ids=["healthy", "small", "recurrent / 20", "forgetful"],
)
def test_a_cell_gets_one_verdict_with_advice_for_a_cell(params, layers, fixes):
    found = [one for one in diagnose(lstm_loss, params, XS).verdicts if one.kind == "vanishing"]
    assert len(found) == bool(layers)
    for one in found:
        assert one.layer.split("[")[0] in layers
        assert all(fix in one.fix for fix in fixes)


def test_the_same_first_row_of_all_examples_is_no_collapse():
    def loss_fn(params, xs):
        step = lambda h, x: (jnp.tanh(x @ params["w"] + h @ params["u"]), None)
        return jnp.mean(jax.lax.scan(step, jnp.zeros((32, 16)), xs)[0] ** 2)

    padded = XS[:6].at[0].set(1.0)
    assert verdicts(loss_fn, {"u": SQUARE[0] / 4, "w": SQUARE[1] / 4}, padded) == []


def test_derivatives_within_the_loss_are_not_judged():
    def u(params, x):
        for weight in params[:-1]:
            x = jnp.tanh(x @ weight)
        return jnp.sum(x @ params[-1])

    def loss_fn(params, x):
        slopes = jax.vmap(jax.grad(u, 1), (None, 0))(params, x)
        return jnp.mean((slopes - jnp.cos(x)) ** 2)

    params = [SQUARE[0] / 4, SQUARE[1] / 4, SQUARE[2][:, :1] / 4]
    assert verdicts(loss_fn, params) == []


def test_waves_count_on_their_frequency():
    def siren(params, x):
        for weight in params[:-1]:
            x = jnp.sin(30 * (x @ weight))
        return x @ params[-1]

    keys = jax.random.split(jax.random.key(8), 4)
    bounds = [1 / 16, *[math.sqrt(6 / 16) / 30] * 3]
    params = [
        jax.random.uniform(key, (16, 16), minval=-bound, maxval=bound)
        for key, bound in zip(keys, bounds, strict=True)
    ]
    x = jax.random.uniform(jax.random.key(9), (64, 16), minval=-1.0)
    assert verdicts(loss_of(siren), params, x) == []
    params[1] = 10 * params[1]
    assert ("exploding", "1") in verdicts(loss_of(siren), params, x)


def test_a_gate_on_a_state_of_zeros_is_not_dead():
    def loss_fn(params, xs):
        h = jnp.zeros((32, 16))
        for x in xs:
            gate = jax.nn.sigmoid(x @ params["r"])
            h = jnp.tanh(x @ params["w"] + gate * (h @ params["u"]))
        return jnp.mean(h**2)

    params = {name: weight / 4 for name, weight in zip("ruw", SQUARE[:3], strict=True)}
    assert verdicts(loss_fn, params, XS[:3]) == []


def test_constant_weights_in_front_of_a_normalisation_are_symmetric():
    def apply(params, x):
        x = x @ params[0]
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5)) @ params[1]

    found = verdicts(loss_of(apply), [jnp.full((16, 16), 0.125), SQUARE[0] / 4])
    assert ("symmetric", "0") in found


def lora(params, x):
    """Hu et al. (2021): the second factor starts at zero."""
    for one in params:
        x = jax.nn.relu(x @ one["weight"] + 2 * (x @ one["a"]) @ one["b"])
    return x


def rezero(params, x):
    """Bachlechner et al. (2020): every branch starts with the factor zero."""
    for one in params:
        x = x + one["scale"] * (jax.nn.relu(x @ one["up"]) @ one["down"])
    return x


def fixup(params, x):
    """Zhang, Dauphin, Ma (2019): the last layer of every branch starts at zero."""
    for one in params:
        h = jax.nn.relu((x + one["bias"]) @ one["up"] + one["bias"])
        x = jax.nn.relu(x + one["scale"] * (h @ one["down"]) + one["bias"])
    return x


def zero_gamma(params, x):
    """Goyal et al. (2017): the last normalisation of every branch starts with the scale zero."""

    def norm(h, scale):
        return scale * (h - h.mean(0)) * jax.lax.rsqrt(h.var(0) + 1e-5)

    for one in params:
        h = jax.nn.relu(norm(x @ one["up"], one["first"]))
        x = jax.nn.relu(x + norm(h @ one["down"], one["last"]))
    return x


def layer_scale(params, x):
    """Touvron et al. (2021): the branches start small, behind a layer that embeds the data."""
    first, *blocks, head = params
    x = x @ first
    for one in blocks:
        x = x + one["scale"] * (jax.nn.relu(x @ one["up"]) @ one["down"])
    return x @ head


HE = [math.sqrt(2 / 16) * weight for weight in SQUARE]
UP_DOWN = [{"up": HE[k], "down": HE[k + 1]} for k in (0, 2, 4)]


@pytest.mark.parametrize(
    ("apply", "params"),
    [
        (
            lora,
            [
                {"weight": HE[k], "a": SQUARE[k + 3][:, :4] / 4, "b": jnp.zeros((4, 16))}
                for k in range(3)
            ],
        ),
        (rezero, [one | {"scale": jnp.zeros(())} for one in UP_DOWN]),
        (
            fixup,
            [
                {"up": one["up"] / math.sqrt(3), "down": jnp.zeros((16, 16))}
                | {"scale": jnp.ones(()), "bias": jnp.zeros(())}
                for one in UP_DOWN
            ],
        ),
        (zero_gamma, [one | {"first": jnp.ones(16), "last": jnp.zeros(16)} for one in UP_DOWN]),
        (
            layer_scale,
            [
                SQUARE[6] / 4,
                *(one | {"scale": jnp.full(16, 1e-4)} for one in UP_DOWN),
                SQUARE[7] / 4,
            ],
        ),
    ],
    ids=["LoRA", "ReZero", "Fixup", "zero gamma", "LayerScale"],
)
def test_branches_that_start_at_zero_or_small_are_healthy(apply, params):
    assert verdicts(loss_of(apply), params) == []


@pytest.mark.parametrize(("inputs", "width"), [(1, 64), (2, 128), (1, 256)])
def test_a_first_layer_that_glorot_draws_is_small_on_purpose_and_a_tenth_of_it_is_not(
    inputs, width
):
    draw = jax.nn.initializers.glorot_normal()
    shapes = ((inputs, width), (width, 16), (16, 1))
    params = [draw(key, shape) for key, shape in zip(KEYS, shapes, strict=False)]
    x = jax.random.uniform(jax.random.key(10), (64, inputs), minval=-1.0)

    def loss(params, x):
        h = jnp.tanh(jnp.tanh(x @ params[0]) @ params[1])
        return jnp.mean((h @ params[2] - jnp.sin(3 * x[:, :1])) ** 2)

    assert verdicts(loss, params, x) == []
    assert ("vanishing", "0") in verdicts(loss, [params[0] / 10, *params[1:]], x)


@pytest.mark.parametrize("variance", [1e-5, 0.5, 18.0, 90.0])
@pytest.mark.parametrize("factor", [math.nan, 0.5, 45.0])
@pytest.mark.parametrize("expected", [0.01, 1.0, 25.0])
def test_no_number_stands_beside_a_healthy_range_that_holds_it(variance, factor, expected):
    said = _evidence(Arrival(variance, 1.0, factor, 1.0, expected), expected, 3, 0.001, 30.0)
    ill = re.search(r"(\S+)( at depth 3| times [\w ]+), healthy is (?:at most )?(.*?)(;|,|$)", said)
    is_fine = variance in (0.5, 18.0) and not factor > 30 and expected == 1.0
    assert (ill is None) == is_fine, said
    if ill is not None:
        *low, high = (float(bound) for bound in ill[3].split(" to "))
        assert not (low or [0.0])[0] <= float(ill[1]) <= high, said
