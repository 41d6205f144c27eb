"""`fit` takes a model of any kind, trains its parameters alone, and returns the same kind."""

import re
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.core import FrozenDict

from jaxopt_tut import optimizers
from jaxopt_tut.splitting import split_model
from jaxopt_tut.training import Aux, evaluator, fit
from jaxopt_tut.training.steps import run_steps
from jaxopt_tut.trees import named_leaves

KEY = jax.random.key(0)
SIZE, BATCH, WIDTH = 24, 8, 4
FLOAT32_EPS = float(np.finfo(np.float32).eps)


def images():
    x = jax.random.normal(jax.random.key(1), (SIZE, 4, 4, 1)) + 2.0
    return x, jnp.mean(x, axis=(1, 2, 3))


class Nnx(nnx.Module):
    """A convolution, a normalisation with averages, a dropout, and a head that is used twice."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, WIDTH, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, momentum=0.5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.twice = self.head
        self.out = nnx.Linear(WIDTH, 1, rngs=rngs)
        self.calls = 3
        self.act = jax.nn.relu

    def __call__(self, x):
        x = jnp.mean(self.act(self.norm(self.conv(x))), axis=(1, 2))
        return self.out(self.twice(self.head(self.drop(x))))[:, 0]


class Linen(linen.Module):
    """The same in the other flax."""

    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(not train, momentum=0.5)(linen.Conv(WIDTH, (3, 3))(x))
        x = jnp.mean(linen.relu(x), axis=(1, 2))
        return linen.Dense(1)(linen.Dropout(0.5, deterministic=not train)(x))[:, 0]


class Eqx(eqx.Module):
    """An array that counts, a flag, a text and functions beside the weights."""

    mlp: eqx.nn.MLP
    drop: eqx.nn.Dropout
    counts: jax.Array
    name: str
    is_wide: bool

    def __init__(self, key):
        self.mlp = eqx.nn.MLP(16, 1, WIDTH, 2, key=key)
        self.drop = eqx.nn.Dropout(0.5)
        self.counts = jnp.arange(3)
        self.name, self.is_wide = "net", True

    def __call__(self, x, key):
        return self.mlp(self.drop(x.ravel(), key=key, inference=key is None))[0]


def plain_model(key):
    return {
        "w": jax.random.normal(key, (16,)) / 4, "act": jnp.tanh, "depth": 2, "name": "net",
        "counts": jnp.arange(3), "none": None, "empty": jnp.zeros((0,)), "scale": 1.0,
    }  # fmt: skip


def squared(out, target):
    return jnp.mean((out - target) ** 2)


def nnx_loss(model, batch):
    return squared(model(batch[0]), batch[1])


def linen_loss(variables, batch, key):
    out, updates = Linen().apply(
        variables, batch[0], train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    return squared(out, batch[1]), Aux(model_state=updates)


def eqx_loss(model, batch, key):
    keys = jax.random.split(key, len(batch[0]))
    return squared(jax.vmap(model)(batch[0], keys), batch[1])


def plain_loss(model, batch, key):
    x = batch[0].reshape(len(batch[0]), -1)
    x = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0)
    for _ in range(model["depth"]):
        x = model["act"](x)
    return squared(model["scale"] * (x @ model["w"]), batch[1])


def evaluated(model):
    model.eval()
    return model


class Kind(NamedTuple):
    """A kind of model.

    Attributes:
      make: Draws one.
      loss_fn: Its loss, which draws.
      predict: Its outputs without dropout.
      trained: Names among those of the trained leaves, and how many there are.
      carried: All names of what it carries.
    """

    make: object
    loss_fn: object
    predict: object
    trained: tuple
    carried: list


AVERAGES = ["batch_stats/BatchNorm_0/mean", "batch_stats/BatchNorm_0/var"]
KINDS = {
    "nnx": Kind(
        lambda key: Nnx(nnx.Rngs(key)), nnx_loss, lambda model, x: evaluated(model)(x),
        ("head/kernel", 8), ["drop/rngs/count", "drop/rngs/key", "norm/mean", "norm/var"],
    ),
    "linen": Kind(
        lambda key: Linen().init(key, images()[0][:1], train=False), linen_loss,
        lambda variables, x: Linen().apply(variables, x, train=False),
        ("Dense_0/kernel", 6), AVERAGES,
    ),
    "frozen linen": Kind(
        lambda key: FrozenDict(Linen().init(key, images()[0][:1], train=False)), linen_loss,
        lambda variables, x: Linen().apply(variables, x, train=False),
        ("Dense_0/kernel", 6), AVERAGES,
    ),
    "equinox": Kind(
        Eqx, eqx_loss, lambda model, x: jax.vmap(lambda one: model(one, None))(x),
        ("mlp/layers/0/weight", 6), ["counts"],
    ),
    "plain": Kind(
        plain_model, plain_loss, lambda model, x: x.reshape(len(x), -1) @ model["w"],
        ("w", 3), ["counts"],
    ),
    "nested": Kind(
        lambda key: {"net": Nnx(nnx.Rngs(key)), "shift": 0.5, "name": "pair"},
        lambda model, batch: squared(model["net"](batch[0]) + model["shift"], batch[1]),
        lambda model, x: evaluated(model["net"])(x) + model["shift"],
        ("net/out/bias", 9),
        ["net/drop/rngs/count", "net/drop/rngs/key", "net/norm/mean", "net/norm/var"],
    ),
}  # fmt: skip
SLOW = ["frozen linen", "nested"]
SOME = [pytest.param(k, marks=pytest.mark.slow if k in SLOW else ()) for k in KINDS]


def train(kind, model=None, optimizer=None, **options):
    options = {"num_epochs": 2, "key": KEY, "progress": False, **options}
    model = kind.make(jax.random.key(2)) if model is None else model
    optimizer = ADAM if optimizer is None else optimizer
    return fit(kind.loss_fn, model, optimizer, images(), batch_size=BATCH, **options)


ADAM = optimizers.adam(0.03)


def metrics_of(kind):
    return lambda model, batch: {"loss": squared(kind.predict(model, batch[0]), batch[1])}


@pytest.mark.parametrize("name", SOME)
def test_the_result_is_a_model_of_the_kind_that_came_in(name):
    kind = KINDS[name]
    model = kind.make(jax.random.key(2))
    before = split_model(model, "test")
    steps = run_steps._cache_size()
    result = train(kind, model, num_epochs=8, evaluate=evaluator(metrics_of(kind), images()))
    assert run_steps._cache_size() == steps + 1
    history = result.history
    assert history.train["loss"][-1] < history.train["loss"][0]
    for after in (result.params, result.best):
        assert type(after) is type(model)
        parts = split_model(after, "test")
        assert parts.assembly == before.assembly
        assert jax.tree.structure(parts.trained) == jax.tree.structure(before.trained)
        changed = [
            bool(jnp.any(one != other))
            for one, other in zip(
                jax.tree.leaves(parts.trained), jax.tree.leaves(before.trained), strict=True
            )
            if jnp.size(one)
        ]
        assert any(changed)
    loss = metrics_of(kind)(result.best, images())["loss"]
    # the same numbers, summed in another order
    np.testing.assert_allclose(loss, history.validation["loss"].min(), rtol=1e-5)
    assert result.best_epoch == 1 + np.argmin(history.validation["loss"])
    # the second time nothing is compiled, and the model of before is as it was
    again = train(kind, model, num_epochs=8, evaluate=evaluator(metrics_of(kind), images()))
    assert run_steps._cache_size() == steps + 1
    np.testing.assert_array_equal(again.history.steps["loss"], history.steps["loss"])
    for one, other in zip(
        jax.tree.leaves(split_model(model, "test")[:2]), jax.tree.leaves(before[:2]), strict=True
    ):
        assert jnp.all(one == other)


@pytest.mark.parametrize("name", SOME)
def test_the_optimizer_sees_a_tree_of_the_parameters_alone(name):
    kind = KINDS[name]
    seen = []
    spy = optax.GradientTransformation(
        lambda params: (seen.append(named_leaves(params)), optax.EmptyState())[1],
        lambda updates, state, params: (jax.tree.map(jnp.zeros_like, updates), state),  # noqa: ARG005
    )
    result = train(kind, optimizer=spy, num_epochs=1)
    (leaves,) = seen
    one, count = kind.trained
    assert one in dict(leaves)
    assert len(leaves) == count
    assert all(jnp.issubdtype(leaf.dtype, jnp.inexact) for _, leaf in leaves)
    model = split_model(kind.make(jax.random.key(2)), "test")
    assert [n for n, _ in named_leaves(model.carried)] == kind.carried
    for ours, theirs in zip(
        jax.tree.leaves(model.trained),
        jax.tree.leaves(split_model(result.params, "")[0]),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", SOME)
def test_a_function_draws_the_same_model(name):
    kind = KINDS[name]
    drawn = train(kind, kind.make)
    given = train(kind, kind.make(jax.random.split(KEY)[0]))
    for one, other in zip(
        jax.tree.leaves(split_model(drawn.params, "")[:2]),
        jax.tree.leaves(split_model(given.params, "")[:2]),
        strict=True,
    ):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = map(jax.random.key_data, (one, other))
        # two programs draw with other roundings; Adam's steps of .03 part by less than .01 of one
        np.testing.assert_allclose(one, other, atol=3e-4)


@pytest.mark.parametrize("name", ["nnx", "linen", "nested"])
def test_running_averages_move_as_they_should(name):
    """The mean of a layer that stays follows that of the batches with momentum one half."""
    kind = KINDS[name]
    frozen = optax.set_to_zero()
    model = kind.make(jax.random.key(2))
    result = train(kind, model, frozen, num_epochs=1)
    x = images()[0]
    _, shuffle_key = jax.random.split(KEY)
    order = jax.random.permutation(jax.random.fold_in(shuffle_key, 0), SIZE).reshape(-1, BATCH)
    if name == "linen":
        conv = lambda x: linen.Conv(WIDTH, (3, 3)).apply({"params": model["params"]["Conv_0"]}, x)
        found = result.params["batch_stats"]["BatchNorm_0"]["mean"]
    else:
        net = model["net"] if name == "nested" else model
        conv = net.conv
        last = result.params["net"] if name == "nested" else result.params
        found = last.norm.mean[...]
        assert int(last.drop.rngs.count[...]) == SIZE // BATCH
        assert int(net.drop.rngs.count[...]) == 0
    mean = jnp.zeros(WIDTH)
    for index in order:
        mean = 0.5 * mean + 0.5 * jnp.mean(conv(x[index]), axis=(0, 1, 2))
    np.testing.assert_allclose(found, mean, rtol=1e-5, atol=16 * FLOAT32_EPS)


@pytest.mark.parametrize("name", KINDS)
def test_two_steps_of_dropout_differ(name):
    kind = KINDS[name]
    same = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], (BATCH, *leaf.shape[1:])), images())
    result = fit(
        kind.loss_fn, kind.make(jax.random.key(2)), optax.set_to_zero(), same,
        batch_size=BATCH, num_epochs=4, key=KEY, progress=False,
    )  # fmt: skip
    assert len(set(result.history.steps["loss"].tolist())) == 4


def test_a_shared_layer_stays_shared():
    result = train(KINDS["nnx"])
    assert result.params.twice is result.params.head
    assert result.params.calls == 3


def test_an_optimizer_that_is_masked_by_path_trains_what_it_should():
    is_kernel = lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: "kernel" in jax.tree_util.keystr(path), params
    )
    frozen = lambda params: jax.tree.map(lambda flag: not flag, is_kernel(params))
    masked = optax.chain(optax.masked(optax.set_to_zero(), frozen), ADAM)
    model = KINDS["nnx"].make(jax.random.key(2))
    result = train(KINDS["nnx"], model, masked)
    before, after = (dict(named_leaves(split_model(m, "").trained)) for m in (model, result.params))
    moved = {name for name in before if bool(jnp.any(before[name] != after[name]))}
    assert moved == {name for name in before if name.endswith("kernel")}


def test_training_goes_on_from_a_model_and_its_optimizers_state():
    for name in ("nnx", "linen", "equinox"):
        kind = KINDS[name]
        first = train(kind, num_epochs=1)
        more = train(kind, first.params, opt_state=first.opt_state, num_epochs=1)
        assert int(more.opt_state[0].count) == 2 * SIZE // BATCH
        assert more.finite


def test_a_state_of_the_users_goes_beside_what_a_module_carries():
    def loss_fn(model, batch, model_state):
        return nnx_loss(model, batch), Aux({}, {"steps": model_state["steps"] + 1})

    model = Nnx(nnx.Rngs(0))
    seen = []
    result = fit(
        loss_fn, model, ADAM, images(), batch_size=BATCH, num_epochs=2, key=KEY, progress=False,
        model_state={"steps": jnp.int32(0)},
        evaluate=lambda model, state: (
            seen.append((type(model), int(state["steps"]))), {"loss": 1.0})[1],
    )  # fmt: skip
    assert seen == [(Nnx, 3), (Nnx, 6)]
    assert result.model_state == {"steps": 6}
    assert result.best_model_state == {"steps": 3}
    assert int(result.params.drop.rngs.count[...]) == 6
    assert int(result.best.drop.rngs.count[...]) == 3


class Normed(eqx.Module):
    """Running averages of equinox live in a state of their own."""

    linear: eqx.nn.Linear
    norm: eqx.nn.BatchNorm

    def __init__(self, key):
        self.linear = eqx.nn.Linear(16, 1, key=key)
        self.norm = eqx.nn.BatchNorm(16, "batch", momentum=0.5, mode="ema")

    def __call__(self, x, state):
        x, state = self.norm(x.ravel(), state)
        return self.linear(x)[0], state


def test_a_state_of_equinox_is_the_model_state():
    model, state = eqx.nn.make_with_state(Normed)(jax.random.key(0))

    def loss_fn(model, batch, state):
        axes = {"in_axes": (0, None), "out_axes": (0, None), "axis_name": "batch"}
        out, state = jax.vmap(model, **axes)(batch[0], state)
        return squared(out, batch[1]), Aux(model_state=state)

    result = fit(
        loss_fn, model, ADAM, images(), batch_size=BATCH, num_epochs=2, key=KEY,
        model_state=state, progress=False,
    )  # fmt: skip
    assert type(result.params) is Normed
    assert type(result.model_state) is eqx.nn.State
    before, after = (jax.tree.leaves(one) for one in (state, result.model_state))
    assert any(bool(jnp.any(a != b)) for a, b in zip(before, after, strict=True))
    with pytest.raises(TypeError, match=r"^fit takes a State of equinox as model_state="):
        fit(
            loss_fn, (model, state), ADAM, images(), batch_size=BATCH, num_epochs=1, key=KEY,
            progress=False,
        )  # fmt: skip


def test_what_a_module_notes_on_the_way_is_left_behind():
    class Noting(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(1, 1, rngs=rngs)

        def __call__(self, x):
            self.seen = nnx.Intermediate(jnp.mean(x))
            return self.linear(x)

    x = jnp.ones((4, 1))
    result = fit(
        lambda model, x: jnp.mean(model(x) ** 2), Noting(nnx.Rngs(0)), ADAM, x,
        batch_size=2, num_epochs=1, key=KEY, progress=False,
    )  # fmt: skip
    assert [n for n, _ in named_leaves(nnx.state(result.params, nnx.Intermediate))] == []


def test_a_model_of_another_structure_is_compiled_anew():
    """A flag that is fixed steers the program: True and 1 are equal, and steer it alike or not."""
    loss_fn = lambda model, x: jnp.mean(model["w"] * x) + float(model["flag"] is True)
    losses = [
        fit(
            loss_fn, {"w": 0.0, "flag": flag}, ADAM, jnp.ones(2), batch_size=2, num_epochs=1,
            key=KEY, progress=False,
        ).history.steps["loss"][0]
        for flag in (True, 1, False)
    ]  # fmt: skip
    assert losses == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nnx", "non-finite model state at 'norm/mean'"),
        ("linen", "non-finite model state at 'batch_stats/BatchNorm_0/mean'"),
    ],
)
def test_a_stop_names_the_leaf(name, sentence):
    kind = KINDS[name]

    def loss_fn(model, batch, key=None):
        x = batch[0].at[0, 0, 0].set(jnp.where(batch[1][0] > -9, jnp.inf, 0))
        args = (key,) if name == "linen" else ()
        out = kind.loss_fn(model, (x, batch[1]), *args)
        loss, aux = out if name == "linen" else (out, None)
        loss = jnp.where(jnp.isfinite(loss), loss, 0.0)
        return (loss, aux) if name == "linen" else loss

    result = fit(
        loss_fn, kind.make(jax.random.key(2)), optax.set_to_zero(), images(),
        batch_size=BATCH, num_epochs=1, key=KEY, progress=False,
    )  # fmt: skip
    assert re.search(sentence, result.message)
    assert type(result.params) is type(kind.make(jax.random.key(2)))


class Unhashable:
    """A setting that cannot be compared by its hash."""

    __hash__ = None

    def __eq__(self, other):
        return True


def test_what_cannot_be_held_fixed_is_refused():
    with pytest.raises(TypeError, match=r"^fit holds what is no array fixed, .* at 'setting'\.$"):
        train(KINDS["plain"], {**plain_model(KEY), "setting": Unhashable()})


def test_a_model_is_diagnosed_on_the_way():
    result = train(KINDS["nnx"], num_epochs=1, diagnose_every=2)
    assert sorted(result.history.diagnoses) == [0, 2]
    assert "out/kernel" in result.history.diagnoses[0].layers


def test_ctrl_c_returns_whole_models():
    """After the epoch's steps, whatever was going on, nothing of the module is of another step."""
    seen = []

    def evaluate(model):
        seen.append(int(model.drop.rngs.count[...]))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return {"loss": 1.0}

    result = train(KINDS["nnx"], num_epochs=4, evaluate=evaluate)
    assert result.message == "Interrupted in epoch 2, step 3."
    assert seen == [3, 6]
    assert int(result.params.drop.rngs.count[...]) == int(result.opt_state[0].count) == 6
    assert int(result.best.drop.rngs.count[...]) == 3
    assert result.best_epoch == 1


def test_parts_of_a_batch_draw_and_average_one_after_the_other():
    result = train(KINDS["nnx"], num_epochs=1, accumulate=2)
    assert int(result.params.drop.rngs.count[...]) == 2 * SIZE // BATCH
    assert int(result.opt_state[0].count) == SIZE // BATCH


@pytest.mark.parametrize("unknown", ["batch_statistics", "intermediates"])
def test_a_collection_that_the_model_does_not_have_is_refused(unknown):
    def loss_fn(variables, batch):
        out = variables["params"]["w"] * jnp.mean(batch[0], axis=(1, 2, 3))
        updates = {"params": variables["params"], "batch_stats": {"n": jnp.float32(1)}}
        return squared(out, batch[1]), Aux(model_state=updates | {unknown: {"n": jnp.float32(1)}})

    variables = {"params": {"w": jnp.float32(0)}, "batch_stats": {"n": jnp.float32(0)}}
    message = rf"^fit needs Aux\(model_state=\) to have .* \['batch_stats'\], got \['{unknown}'\]"
    with pytest.raises(ValueError, match=message):
        fit(
            loss_fn, variables, optax.sgd(0.1), images(), batch_size=BATCH, num_epochs=1, key=KEY,
            progress=False,
        )  # fmt: skip


class KeywordRngs(Nnx):
    """As most modules are written."""

    def __init__(self, *, rngs):
        super().__init__(rngs)


class DrawnByKey(Nnx):
    """A class that takes a key is a function that draws a module."""

    def __init__(self, key):
        super().__init__(nnx.Rngs(key))


def test_a_class_of_nnx_that_takes_no_key_is_refused_with_the_recipe():
    given = dict(batch_size=BATCH, num_epochs=1, key=KEY, progress=False)
    for model in (Nnx, KeywordRngs):
        recipe = rf"the class {model.__name__}, .* write lambda key: .*\(rngs=nnx.Rngs\(key\)\)\."
        with pytest.raises(TypeError, match=recipe):
            fit(nnx_loss, model, optax.sgd(0.1), images(), **given)
        init = lambda key, model=model: model(rngs=nnx.Rngs(key))
        assert isinstance(fit(nnx_loss, init, optax.sgd(0.1), images(), **given).params, model)
    found = fit(nnx_loss, DrawnByKey, optax.sgd(0.1), images(), **given).params
    assert isinstance(found, DrawnByKey)
