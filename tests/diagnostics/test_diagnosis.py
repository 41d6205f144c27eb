"""Planted faults, and the verdicts that must name them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.datasets import load_fashion_mnist_mini
from jaxopt_tut.diagnostics import diagnose, report
from jaxopt_tut.initializers import constant, variance_scaling
from jaxopt_tut.models import mlp

SIZES = (784, 64, 64, 10)


def batch():
    train = load_fashion_mnist_mini().train
    images = (train.images[:256].astype("float32") / 255 - 0.2861) / 0.3530
    return images, train.labels[:256]


def relu_loss(params, batch):
    logits = mlp.apply(params, batch[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


def tanh_loss(params, batch):
    logits = mlp.apply(params, batch[0], jnp.tanh)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


ADAM = optimizers.adam(1e-3)
DOUBLED = {"kernel_init": variance_scaling(16.0)}


def kinds(diagnosis):
    return {verdict.kind for verdict in diagnosis.verdicts}


@pytest.mark.slow
@pytest.mark.parametrize("loss_fn", [relu_loss, tanh_loss], ids=["relu", "tanh"])
def test_a_healthy_network_has_no_verdict(loss_fn):
    for seed in range(5):
        params = mlp.init(jax.random.key(seed), SIZES)
        diagnosis = diagnose(loss_fn, params, batch(), optimizer=ADAM)
        assert diagnosis.verdicts == ()
        assert diagnosis.worst is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss_fn", "options", "kind", "layers"),
    [
        (relu_loss, {"kernel_init": constant(0.005)}, "symmetric", "01"),
        (relu_loss, {"kernel_init": variance_scaling(0.02)}, "vanishing", "012"),
        (relu_loss, {"kernel_init": variance_scaling(200.0)}, "exploding", "012"),
        (relu_loss, {"bias_init": constant(-5.0)}, "dead", "01"),
        (tanh_loss, DOUBLED, "saturated", "01"),
    ],
    ids=["constant", "small", "large", "negative bias", "saturated"],
)
def test_a_bad_start_is_named_at_every_layer(loss_fn, options, kind, layers):
    params = mlp.init(jax.random.key(0), SIZES, **options)
    diagnosis = diagnose(loss_fn, params, batch(), optimizer=ADAM)
    assert [v.layer for v in diagnosis.verdicts if v.kind == kind] == [
        f"{layer}/kernel" for layer in layers
    ]
    assert diagnosis.verdicts[0].kind == kind


@pytest.mark.slow
def test_raw_pixels_are_the_worst_of_what_they_cause():
    images, labels = batch()
    raw = (images * 0.3530 + 0.2861) * 255
    worst = diagnose(relu_loss, mlp.init(jax.random.key(0), SIZES), (raw, labels)).worst
    assert worst is not None
    assert (worst.kind, worst.layer) == ("input_not_normalized", "0/kernel")
    assert f"{raw.mean():.3g}" in worst.evidence
    assert f"{raw.std():.3g}" in worst.fix


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learning_rate", "kind"), [(3e-2, "lr_too_high"), (1e-6, "lr_too_low")], ids=["x30", "/1000"]
)
def test_a_bad_learning_rate_is_named(learning_rate, kind):
    params = mlp.init(jax.random.key(0), SIZES)
    diagnosis = diagnose(relu_loss, params, batch(), optimizer=optimizers.adam(learning_rate))
    assert kinds(diagnosis) == {kind}


def test_logits_of_a_scaled_last_layer_are_too_large():
    params = mlp.init(jax.random.key(0), SIZES)
    params[-1]["kernel"] *= 10.0
    diagnosis = diagnose(relu_loss, params, batch(), optimizer=ADAM)
    assert "logits_too_large" in kinds(diagnosis)
    assert {verdict.layer for verdict in diagnosis.verdicts} == {"2/kernel"}


def test_one_output_that_happens_to_be_small_does_not_hide_its_weights():
    x = jax.random.normal(jax.random.key(0), (64, 50))
    weight = jnp.full((50, 1), 10 / jnp.sqrt(50.0))
    x = x - 0.9 * jnp.mean(x, axis=1, keepdims=True)  # nearly orthogonal to the weights
    found = diagnose(lambda w, x: jnp.mean((x @ w) ** 2), weight, x)
    (layer,) = found.layers.values()
    assert layer.pre_activations.variance < 30 * x.var()
    assert [verdict.kind for verdict in found.verdicts] == ["exploding"]
    assert "100 times on average" in found.verdicts[0].evidence


def test_a_nan_is_found_where_it_begins():
    params = mlp.init(jax.random.key(0), SIZES)
    params[1]["kernel"] = params[1]["kernel"].at[3, 4].set(jnp.nan)
    (verdict,) = diagnose(relu_loss, params, batch(), optimizer=ADAM).verdicts
    assert (verdict.kind, verdict.layer) == ("non_finite", "1/kernel")
    assert verdict.cause == "'1/kernel', which the loss is given, holds NaN or infinities"


TOKENS = jax.random.normal(jax.random.key(5), (16, 8, 12))
HEADS = {
    name: jax.random.normal(key, (12, 12)) / math.sqrt(12)
    for name, key in zip("kovq", jax.random.split(jax.random.key(6), 4), strict=True)
}


def attention_loss(params, x, has_root=False):
    """Attention with a mask of -inf; with a root, something that goes wrong beside it."""
    q, k, v = (x @ params[name] for name in "qkv")
    scores = jnp.where(jnp.tril(jnp.ones((8, 8), bool)), q @ k.mT / math.sqrt(12), -jnp.inf)
    out = jax.nn.softmax(scores) @ v @ params["o"]
    loss = jnp.mean((out - jnp.sin(x)) ** 2)
    return loss + jnp.sum(jnp.sqrt(0 * params["o"])) if has_root else loss


def test_a_mask_of_minus_infinity_is_meant():
    assert diagnose(attention_loss, HEADS, TOKENS, optimizer=ADAM).verdicts == ()


def test_beside_a_mask_the_operation_at_fault_is_named():
    loss = lambda params, x: attention_loss(params, x, has_root=True)
    (verdict,) = diagnose(loss, HEADS, TOKENS).verdicts
    assert (verdict.kind, verdict.layer) == ("non_finite", "o")
    assert "the operation sqrt at" in verdict.cause


def test_a_gradient_that_is_not_finite_counts_outside_of_layers():
    def loss(params, x):
        return attention_loss(params["net"], x) + jnp.linalg.norm(params["bias"])

    params = {"bias": jnp.zeros(3), "net": HEADS}
    (verdict,) = diagnose(loss, params, TOKENS).verdicts
    assert verdict.kind == "non_finite"
    assert verdict.evidence == "all layers are finite, the gradient of the loss is not"
    assert "the operation sqrt at" in verdict.cause


def deep_loss(params, x):
    hidden, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["stack"])
    return jnp.mean((hidden @ params["head"]) ** 2)


def deep_params(gain):
    stack = gain * jax.random.normal(jax.random.key(0), (40, 32, 32)) / jnp.sqrt(32)
    return {"stack": stack, "head": jax.random.normal(jax.random.key(1), (32, 4)) / jnp.sqrt(32)}


@pytest.mark.slow
def test_the_ordered_phase_vanishes_and_names_the_step():
    x = jax.random.normal(jax.random.key(2), (64, 32))
    assert diagnose(deep_loss, deep_params(1.0), x).verdicts == ()
    verdicts = diagnose(deep_loss, deep_params(0.7), x).verdicts
    first = next(v for v in verdicts if v.kind == "vanishing" and "variance" in v.evidence)
    # Linear shrinking by 0.49 a layer meets 0.002 / l at l = 13 or so, that of tanh before.
    assert first.layer in [f"stack[{k}]" for k in range(7, 14)]


@pytest.mark.slow
def test_a_recurrent_state_of_zeros_is_healthy():
    def loss_fn(params, xs):
        step = lambda h, x: (jnp.tanh(x @ params["w"] + h @ params["u"]), None)
        hidden, _ = jax.lax.scan(step, jnp.zeros((32, 16)), xs)
        return jnp.mean((hidden @ params["head"]) ** 2)

    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"w": (8, 16), "u": (16, 16), "head": (16, 4)}
    params = {
        name: jax.random.normal(key, shape) / jnp.sqrt(shape[0])
        for (name, shape), key in zip(shapes.items(), keys[:3], strict=True)
    }
    found = diagnose(loss_fn, params, jax.random.normal(keys[3], (5, 32, 8)))
    assert found.layers["u"].pre_activations.variance[0] == 0
    assert found.verdicts == ()


@pytest.mark.slow
def test_collapse_is_seen_where_all_examples_become_one():
    weights = 0.9 * jax.random.normal(jax.random.key(0), (30, 64, 64)) / 8
    x = jax.random.normal(jax.random.key(2), (64, 64))

    def loss_fn(params, x):
        step = lambda h, w: (jnp.tanh(h @ w + params["bias"]), None)
        return jnp.mean(jax.lax.scan(step, x, params["stack"])[0][:, 0])

    bias = jax.random.normal(jax.random.key(1), (64,))
    found = diagnose(loss_fn, {"stack": weights, "bias": bias}, x)
    assert "rank_collapse" in kinds(found)


@pytest.mark.slow
def test_a_loss_with_a_key_gets_it():
    def loss_fn(params, x, key):
        keep = jax.random.bernoulli(key, 0.5, x.shape)
        return jnp.mean((jnp.where(keep, x, 0) @ params) ** 2)

    weight = jax.random.normal(jax.random.key(0), (6, 3))
    x = jax.random.normal(jax.random.key(1), (8, 6))
    (one,), (other,) = (
        diagnose(loss_fn, weight, x, key=jax.random.key(k)).layers.values() for k in range(2)
    )
    assert one.pre_activations.variance != other.pre_activations.variance


def test_the_same_function_and_shapes_are_compiled_once():
    traces = []

    def loss_fn(params, x):
        traces.append(1)
        return jnp.mean((x @ params) ** 2)

    x = jax.random.normal(jax.random.key(1), (8, 6))
    for seed in range(3):
        diagnose(loss_fn, jax.random.normal(jax.random.key(seed), (6, 3)), x)
    assert len(traces) == 1


def test_the_report_has_a_row_a_layer_and_says_what_to_do():
    params = mlp.init(jax.random.key(0), SIZES, kernel_init=variance_scaling(200.0))
    diagnosis = diagnose(relu_loss, params, batch(), optimizer=ADAM)
    text = report(diagnosis)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["0/kernel", "1/kernel", "2/kernel"]
    assert len({len(line) for line in lines[:5]}) == 1
    for verdict in diagnosis.verdicts:
        for part in (verdict.kind, verdict.evidence, verdict.cause, verdict.fix):
            assert part in text
    assert "\x1b[31m0/kernel" in report(diagnosis, color=True)


def test_a_diagnosis_is_a_pytree():
    weight = jax.random.normal(jax.random.key(0), (6, 3))
    x = jax.random.normal(jax.random.key(1), (8, 6))
    found = diagnose(lambda w, x: jnp.mean((x @ w) ** 2), weight, x)
    again = jax.tree.map(np.asarray, found)
    assert again.verdicts == found.verdicts
    assert list(again.layers) == list(found.layers)


def square_loss(params, x):
    return jnp.mean((mlp.apply(params, x) - 1) ** 2)


@pytest.mark.parametrize("loss_fn", [relu_loss, square_loss], ids=["classes", "numbers"])
@pytest.mark.parametrize("value", [1e-4, 0.005, 0.1, 1.0, -0.1])
def test_of_units_that_are_all_alike_that_alone_is_said(loss_fn, value):
    params = mlp.init(jax.random.key(0), SIZES, kernel_init=constant(value))
    data = batch() if loss_fn is relu_loss else batch()[0].reshape(len(batch()[0]), -1)
    found = diagnose(loss_fn, params, data)
    assert found.worst is not None
    assert (found.worst.kind, found.worst.layer) == ("symmetric", "0/kernel")
    assert kinds(found) == {"symmetric"}


def test_a_last_layer_of_one_number_behind_random_ones_is_judged_by_its_size():
    params = mlp.init(jax.random.key(0), SIZES)
    params[-1]["kernel"] = jnp.full_like(params[-1]["kernel"], 5.0)
    found = diagnose(relu_loss, params, batch())
    assert kinds(found) >= {"exploding"}


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_a_batch_of_zeros_carries_no_signal(bias):
    images, labels = batch()
    params = mlp.init(jax.random.key(0), SIZES, bias_init=constant(bias))
    (verdict,) = diagnose(relu_loss, params, (0 * images, labels), optimizer=ADAM).verdicts
    assert (verdict.kind, verdict.layer) == ("no_signal", "0/kernel")
    one = jnp.zeros_like(images).at[0].set(1.0)
    assert "no_signal" not in kinds(diagnose(relu_loss, params, (one, labels)))


def test_a_batch_of_one_example_many_times_is_named_as_a_cause():
    images, labels = batch()
    same = jnp.broadcast_to(images[:1], images.shape)
    worst = diagnose(relu_loss, mlp.init(jax.random.key(0), SIZES), (same, labels)).worst
    assert worst is not None
    assert (worst.kind, worst.layer) == ("rank_collapse", "0/kernel")
    assert worst.cause.startswith("the examples of the batch are alike")


def embedded(params, batch):
    tokens, labels = batch
    outputs = jax.nn.relu(params["table"][tokens] @ params["first"]) @ params["last"]
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0])
def test_what_is_looked_up_is_not_taken_for_data(scale):
    keys = jax.random.split(jax.random.key(0), 5)
    params = {
        "table": scale * jax.random.normal(keys[0], (50, 16)),
        "first": jax.random.normal(keys[1], (16, 32)) / 4,
        "last": jax.random.normal(keys[2], (32, 4)) / 6,
    }
    batch = jax.random.randint(keys[3], (64,), 0, 50), jax.random.randint(keys[4], (64,), 0, 4)
    found = diagnose(embedded, params, batch)
    assert "no_signal" not in kinds(found)
    for verdict in found.verdicts:
        assert "training set" not in verdict.fix
    if scale in (1e-3, 30.0):
        assert found.worst is not None
        assert found.worst.kind == "input_not_normalized"
        assert found.worst.cause.startswith("embeddings come in units of their own")
    # a batch of zeros beside is one still
    beside = lambda params, x: jnp.mean((x @ params["first"] @ params["last"] - 1) ** 2)
    assert kinds(diagnose(beside, params, jnp.zeros((8, 16)))) == {"no_signal"}
