"""What `fit` cannot use is refused in one sentence, and what it can use is taken."""

import functools
import re
from decimal import Decimal
from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax.sharding import Mesh

from jaxopt_tut.training import Aux, evaluator, fit, loop
from jaxopt_tut.training.arguments import _RECIPES
from jaxopt_tut.training.scalars import as_floats, as_metrics, as_score

X = jnp.linspace(-1.0, 1.0, 8)
STATE = {"mean": jnp.zeros(2)}
FORMS = "fit needs loss_fn to return loss, (loss, metrics) or (loss, Aux(metrics, model_state)), "


def squared_error(w, batch):
    return jnp.mean((w * batch[0] - batch[1]) ** 2)


def run(loss_fn=squared_error, **options):
    options = {
        "params": jnp.zeros(()), "optimizer": optax.sgd(0.1), "dataset": (X, 3 * X),
        "batch_size": 4, "num_epochs": 1, "key": jax.random.key(0), "progress": False, **options,
    }  # fmt: skip
    return fit(loss_fn, **options)


def beside(aux):
    return lambda w, batch: (squared_error(w, batch), aux(w * batch[0]))


@pytest.mark.parametrize(
    ("loss_fn", "error", "sentence"),
    [
        (beside(lambda out: out), TypeError, "got float32[4] beside the loss: return the loss"),
        (beside(lambda out: (out, out)), TypeError, "got tuple beside the loss"),
        (lambda w, b: (squared_error(w, b), {}, {}), TypeError, FORMS + "got a tuple of 3."),
        (lambda w, b: [squared_error(w, b), {}], TypeError, FORMS + "got list as loss."),
        (lambda w, b: {"loss": squared_error(w, b)}, TypeError, FORMS + "got dict as loss."),
        (lambda w, _: Aux({"w": w}), TypeError, FORMS + "got Aux alone."),
        (lambda w, b: print(end=""), TypeError, FORMS + "got None as loss."),  # noqa: ARG005
        (lambda w, _: jnp.int32(3) + 0 * w.astype(int), TypeError, "real floating loss, got int32"),
        (lambda *_: 10**400, TypeError, FORMS + "got int as loss."),
        (lambda *_: -(2**70), TypeError, FORMS + "got int as loss."),
        (lambda *_: np.array(None), TypeError, FORMS + "got object[] as loss."),
        (lambda *_: np.array("low"), TypeError, FORMS + "got <U3[] as loss."),
        (lambda *_: 3, TypeError, "real floating loss, got int32"),
        (lambda w, _: w > 0, TypeError, "fit needs a real floating loss, got bool."),
        (lambda w, _: w.astype(complex), TypeError, "needs a real floating loss, got complex64."),
        (lambda w, b: w * b[0][:1], ValueError, "fit needs a scalar loss, got shape (1,)."),
        (beside(lambda out: {"a": {"b": out}}), TypeError, "flat dictionary, got dict for 'a'."),
        (beside(lambda out: {"a": [out, out]}), TypeError, "got float32[2, 4] for 'a'."),
        (beside(lambda _: {"a": None}), TypeError, "got NoneType for 'a'."),
        (beside(lambda _: {"a": "text"}), TypeError, "got str for 'a'."),
        (beside(lambda _: {"a": 1j}), TypeError, "got complex64[] for 'a'."),
        (beside(lambda out: {"a": out}), ValueError, "fit needs a scalar a, got shape (4,)."),
        (beside(lambda out: Aux(out)), TypeError, "loss_fn to return a dictionary of scalars"),
        (
            beside(lambda _: Aux(model_state=STATE)),
            ValueError,
            "fit needs model_state= for a loss that returns a new one, got None.",
        ),
        (
            lambda w, batch, state: (w, Aux(model_state=state)),  # noqa: ARG005
            TypeError,
            "fit calls loss_fn(params, batch), got a loss of (w, batch, state): missing a required "
            "argument: 'state'; its state is fit(..., model_state=).",
        ),
        (lambda w: w, TypeError, "got a loss of (w): too many positional arguments"),
        (None, TypeError, "fit needs a function as loss_fn, got None."),
    ],
)  # fmt: skip
def test_losses_that_are_refused(loss_fn, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        run(loss_fn)


@pytest.mark.parametrize(
    ("loss_fn", "error", "sentence"),
    [
        (lambda w, _b, _s: w, ValueError, "where model_state is given, got no new one."),
        (lambda w, _b, _s: (w, {"w": w}), ValueError, "(loss, Aux(metrics, model_state)) where"),
        (lambda w, _: w, TypeError, "fit calls loss_fn(params, batch, model_state), got a loss of"),
        (
            lambda w, _b, _s: (w, Aux(model_state={"mean": jnp.zeros(3)})),
            ValueError,
            "form of the one before, got float32[3] at 'mean' for float32[2] at 'mean'.",
        ),
        (
            lambda w, _b, _s: (w, Aux(model_state={"mean": jnp.zeros(2, int)})),
            ValueError,
            "got int32[2] at 'mean' for float32[2] at 'mean'.",
        ),
        (
            lambda w, _b, s: (w, Aux(model_state={**s, "var": w})),
            ValueError,
            "got float32[] at 'var' for none.",
        ),
    ],
)
def test_new_states_that_are_refused(loss_fn, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        run(loss_fn, model_state=STATE)


class Loader:
    """As PyTorch's."""

    def __len__(self):
        return 1

    def __iter__(self):
        return iter([(X, X)])


@pytest.mark.parametrize(
    ("dataset", "error", "sentence"),
    [
        ((batch for batch in [(X, X)]), TypeError, "got generator at '(root)': gather its batches"),
        (iter([X]), TypeError, "got list_iterator at '(root)': gather its batches first"),
        (Loader(), TypeError, "got Loader at '(root)': gather its batches first"),
        ([[1.0, 2.0], [3.0, 4.0]], TypeError, "got 1.0 at '0/0': of lists make arrays"),
        ({"x": [1, 2]}, TypeError, "got 1 at 'x/0': of lists make arrays, np.asarray(...)."),
        ((X, np.array(["a"] * 8)), TypeError, "got <U1 at '1': encode it as numbers."),
        (np.array([{}] * 8), TypeError, "got object at '(root)': encode it as numbers."),
        ("data.npz", TypeError, "fit needs arrays of numbers as dataset, got str at '(root)'."),
        (None, ValueError, "fit needs a dataset with at least one array, got none."),
        ((X, X[:3]), ValueError, "common first axis, got (8,) at '0' and (3,) at '1'."),
        ((X, jnp.ones(())), ValueError, "got (8,) at '0' and () at '1'."),
    ],
)
def test_data_that_are_refused(dataset, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        run(dataset=dataset)


@pytest.mark.parametrize("name", ["batch_size", "num_epochs", "steps_per_call", "diagnose_every"])
@pytest.mark.parametrize("value", [4.0, 2.5, True, "4", np.float32(4), jnp.ones(()), np.arange(2)])
def test_counts_are_integers(name, value):
    sentence = f"fit needs an integer {name}, got {name}={value!r}."
    with pytest.raises(TypeError, match=re.escape(sentence)):
        run(**{name: value})


WITHOUT_PARAMETERS = {
    "nnx": (lambda key: nnx.Dropout(0.1, rngs=nnx.Rngs(key)), "got uint32 at 'rngs/count/value'."),
    "averages alone": (
        lambda _: nnx.BatchNorm(2, use_bias=False, use_scale=False, rngs=nnx.Rngs(0)),
        "fit needs at least one parameter, got none.",
    ),
    "equinox": (lambda _: eqx.nn.Lambda(jnp.tanh), "got PjitFunction at 'fn'."),
    "linen": (
        lambda _: linen.Dense(1),
        "got Dense at '(root)' of a module of linen: hand over variables = model.init(key, x), and "
        "call model.apply(variables, x) in the loss.",
    ),
}


@pytest.mark.parametrize("form", ["module", "initializer", "nested"])
@pytest.mark.parametrize("library", WITHOUT_PARAMETERS)
def test_modules_without_parameters_are_refused(library, form):
    params, sentence = WITHOUT_PARAMETERS[library]
    if form != "initializer":
        params = params(jax.random.key(0))
    if form == "nested":
        params = {"net": params}
        sentence = sentence.replace("(root)", "net").replace("at '", "at 'net/")
        sentence = sentence.replace("net/net", "net")
    with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
        run(params=params)


class Network(nnx.Module):
    """Everything that a module may have beside its parameters."""

    def __init__(self, rngs, parts):
        self.linear = nnx.Linear(1, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs) if "norm" in parts else None
        self.drop = nnx.Dropout(0.5, rngs=rngs) if "drop" in parts else None
        self.last = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        hidden = self.linear(x)
        hidden = hidden if self.norm is None else self.norm(hidden)
        mask = jnp.ones_like(hidden) if self.drop is None else self.drop(jnp.ones_like(hidden))
        return self.last(hidden * mask)[:, 0], mask


@pytest.mark.parametrize("parts", [(), ("norm",), ("drop",), ("norm", "drop")])
def test_the_recipe_for_nnx_draws_new_masks_and_keeps_the_averages(parts):
    """The names are those of the message, whose code is run as it stands."""
    model = Network(nnx.Rngs(0), parts)
    split, _, merge, returned = (
        part.strip(" ,") for part in re.split("split it,|hand over|in the loss,|and return",
        _RECIPES["nnx"])[1:]
    )  # fmt: skip
    names = {"nnx": nnx, "Aux": Aux, "model": model}
    exec(split, names)

    def loss_fn(params, batch, model_state):
        local = {**names, "params": params, "model_state": model_state}
        exec(merge, local)
        out, mask = local["model"](batch[0][:, None])
        local |= {"loss": jnp.mean((out - batch[1]) ** 2), "metrics": {"first": mask[0] @ BITS}}
        return eval(returned, local)

    result = run(loss_fn, params=names["params"], model_state=names["rest"], num_epochs=8)
    masks = result.history.steps["first"]
    # two masks of four are equal once in 16 times: all sixteen are not
    assert (len(set(masks)) > 1) == ("drop" in parts)
    rest = nnx.merge(names["graph"], result.params, result.model_state)
    if "norm" in parts:
        assert jnp.all(rest.norm.mean[...] != 0)
    if "drop" in parts:
        assert int(rest.drop.rngs.count[...]) == 16


BITS = jnp.array([1.0, 2.0, 4.0, 8.0])


def test_a_module_of_parameters_alone_is_trained_as_it_is():
    module = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    loss_fn = lambda model, batch: jnp.mean((model(batch[0][:, None])[:, 0] - batch[1]) ** 2)
    losses = run(loss_fn, params=module, num_epochs=5).history.train["loss"]
    assert losses[-1] < losses[0]


def nth_leaf(index, value):
    """Put something in place of a leaf of Adam's state."""
    leaves, treedef = jax.tree.flatten(optax.adam(0.1).init(jnp.zeros(())))
    return jax.tree.unflatten(treedef, [*leaves[:index], value, *leaves[index + 1 :]])


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"optimizer": optax.adam}, TypeError, "got a function: call it, adam(...)."),
        (
            {"optimizer": None},
            TypeError,
            "an optax transformation as optimizer, got None",
        ),
        ({"key": 0}, TypeError, "fit needs one key of jax.random.key, got 0."),
        ({"key": None}, TypeError, "fit needs one key of jax.random.key, got None."),
        ({"key": jnp.ones(2)}, TypeError, "of jax.random.key, got float32[2]."),
        ({"key": jax.random.split(jax.random.key(0))}, TypeError, "got key<fry>[2]."),
        ({"key": jax.random.split(jax.random.PRNGKey(0))}, TypeError, "got uint32[2, 2]."),
        ({"key": jnp.zeros(3, jnp.uint32)}, TypeError, "of jax.random.key, got uint32[3]."),
        (
            {"params": np.ma.masked_equal([1.0, 2.0], 1)},
            TypeError,
            "got masked entries at '(root)'",
        ),
        (
            {"dataset": np.ma.masked_less(np.asarray(X), 0)},
            TypeError,
            "masked entries at '(root)': f",
        ),
        ({"model_state": {"m": np.ma.masked_equal([1.0], 1)}}, TypeError, "masked entries at 'm'"),
        ({"mesh": Mesh(np.array(jax.devices()[0]), ())}, ValueError, "with an axis to split"),
        ({"params": None}, ValueError, "fit needs at least one parameter, got none."),
        ({"params": 3}, TypeError, "needs floating or complex parameters, got int at '(root)'."),
        ({"params": {"w": "a"}}, TypeError, "floating or complex parameters, got str at 'w'."),
        ({"mesh": "cpu"}, TypeError, "fit needs a mesh of jax.make_mesh, got str."),
        ({"model_state": {"m": "a"}}, TypeError, "model_state of arrays, got str at 'm'."),
        ({"evaluate": (X, X)}, TypeError, "got tuple: evaluator(metrics_fn, dataset) makes one."),
        ({"score": "loss"}, TypeError, "fit needs a function as score, got str."),
        ({"model_state": {"n": 10**400}}, TypeError, "model_state of arrays, got int at 'n'."),
        ({"model_state": np.array(["a"])}, TypeError, "of arrays, got ndarray at '(root)'."),
        ({"opt_state": 10**400}, ValueError, "got '(root)' for '(no leaf)'"),
        (
            {"optimizer": optax.adam(0.1), "opt_state": nth_leaf(1, 10**400)},
            ValueError,
            "got int for float32[] at '0/mu': it belongs to another optimizer",
        ),
        (
            {"optimizer": optax.adam(0.1), "opt_state": nth_leaf(0, "first")},
            ValueError,
            "got str for int32[] at '0/count': it belongs to another optimizer",
        ),
    ],
)
def test_other_arguments_that_are_refused(options, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        run(**options)


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        (0.5, "fit needs evaluate to return a dictionary of scalars, got float."),
        (None, "fit needs evaluate to return a dictionary of scalars, got NoneType."),
        (jnp.ones(()), "fit needs evaluate to return a dictionary of scalars, got an array."),
        ((0.5, {}), "fit needs evaluate to return a dictionary of scalars, got tuple."),
        ({"loss": jnp.ones(2)}, "got float32[2] for 'loss'."),
        ({"loss": {"a": 1.0}}, "in one flat dictionary, got dict for 'loss'."),
        ({"loss": None}, "in one flat dictionary, got NoneType for 'loss'."),
        ({"loss": "low"}, "in one flat dictionary, got str for 'loss'."),
        ({"loss": 1j}, "got complex128[] for 'loss'."),
        ({"loss": np.array(10**400)}, "in one flat dictionary, got ndarray for 'loss'."),
        ({"loss": np.datetime64("2020")}, "got datetime64[Y][] for 'loss'."),
        ({"loss": jax.random.key(0)}, "in one flat dictionary, got PRNGKeyArray for 'loss'."),
        ({"loss": Decimal("sNaN")}, "in one flat dictionary, got Decimal for 'loss'."),
    ],
)
def test_what_evaluate_must_not_return(metrics, sentence):
    with pytest.raises(TypeError, match=re.escape(sentence)):
        run(evaluate=lambda _: metrics)


PURE = {
    "an array": (jax.jit(lambda w: w), TypeError, "dictionary of scalars, got an array."),
    "no scalar": (
        functools.partial(jax.jit(lambda w, scale: {"loss": w * scale}), scale=X),
        TypeError,
        "got float32[8] for 'loss'.",
    ),
    "no default to choose by": (
        evaluator(lambda w, batch: {"err": jnp.mean(w * batch)}, X),
        ValueError,
        "unless evaluate returns 'accuracy' or 'loss', got evaluate that returns ['err']: write "
        "score=lambda m: -m['err']",
    ),
    "what its metrics return": (
        evaluator(lambda w, batch: w * batch, X),
        TypeError,
        "evaluator needs metrics_fn to return a dictionary of scalars",
    ),
}


@pytest.mark.parametrize("name", PURE)
def test_what_is_traced_anyway_is_looked_at_before_the_first_step(name, monkeypatch):
    evaluate, error, sentence = PURE[name]
    monkeypatch.setattr(loop.Loop, "run_epoch", lambda *_, **__: pytest.fail("a step was taken"))
    with pytest.raises(error, match=re.escape(sentence)):
        run(evaluate=evaluate)


def wrapped(pure, seen):
    """Write down what a function returns, as a log of the user's does, under its name."""

    @functools.wraps(pure)
    def logged(w):
        metrics = pure(w)
        seen.append(float(metrics["loss"]))
        return metrics

    return logged


PLAIN = {
    "a function": lambda seen: lambda w: seen.append(float(w)) or {"loss": w},
    "around an evaluator": lambda seen: wrapped(evaluator(lambda w, _: {"loss": w}, X), seen),
    "around what is compiled": lambda seen: wrapped(jax.jit(lambda w: {"loss": w}), seen),
    "a part of one around": lambda seen: functools.partial(
        wrapped(evaluator(lambda w, _: {"loss": w}, X), seen)
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_function_of_python_is_called_after_each_epoch_alone(name):
    seen = []
    run(evaluate=PLAIN[name](seen), num_epochs=2)
    assert len(seen) == 2
    assert 0.0 not in seen


def test_the_look_before_the_first_step_traces_for_the_epochs_too():
    traces = []

    def metrics(w, _):
        traces.append(w)
        return {"loss": w}

    compiled = jax.jit(lambda w: metrics(w, None))
    run(evaluate=compiled, num_epochs=3)
    run(evaluate=evaluator(metrics, X, batch_size=4), num_epochs=3)
    assert len(traces) == 2
    assert compiled._cache_size() == 1


def with_state(w, batch, state):
    return squared_error(w, batch), Aux(model_state=state)


STATEFUL = {"loss_fn": with_state, "model_state": STATE}
CALLS = {
    "evaluate without the state": (
        {**STATEFUL, "evaluate": lambda w: {"loss": w}},
        "fit calls evaluate(params, model_state), got one of (w): too many",
    ),
    "evaluate with a state": (
        {"evaluate": lambda w, state: {"loss": w, "state": state}},
        "fit calls evaluate(params), got one of (w, state): missing a required argument: 'state'; "
        "a second argument is the state in fit(..., model_state=).",
    ),
    "an evaluator without the state": (
        {**STATEFUL, "evaluate": evaluator(lambda w, _: {"loss": w}, X)},
        "fit calls evaluate(params, model_state), got one of (params): too many",
    ),
    "an evaluator with a state": (
        {"evaluate": evaluator(lambda w, _b, _s: {"loss": w}, X)},
        "fit calls evaluate(params), got one of (params, model_state): missing a required",
    ),
    "score": (
        {"evaluate": lambda w: {"loss": w}, "score": lambda: 0.0},
        "fit calls score(metrics), got one of (): too many",
    ),
    "init without a key": ({"params": lambda: X[0]}, "fit calls init(key), got one of (): too"),
    "init of two": ({"params": lambda k, x: x * k}, "fit calls init(key), got one of (k, x): mis"),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_of_other_arguments_are_refused_before_the_first_step(name, monkeypatch):
    options, sentence = CALLS[name]
    monkeypatch.setattr(loop, "run_steps", lambda *_, **__: pytest.fail("a step was taken"))
    with pytest.raises(TypeError, match=re.escape(sentence)):
        run(**options)


def test_a_score_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^fit needs evaluate= for a score, got None\.$"):
        run(score=lambda _: 0.0)


@pytest.mark.parametrize("metrics_fn", [lambda w: {"w": w}, lambda: {}, lambda a, b, c, d: {}])  # noqa: ARG005
def test_metrics_of_other_arguments_are_refused_where_the_evaluator_is_made(metrics_fn):
    with pytest.raises(
        TypeError, match=r"^evaluator calls metrics_fn\(params, batch\), got one of"
    ):
        evaluator(metrics_fn, X)


@pytest.mark.parametrize("thing", [None, {"loss": 1.0}, "accuracy"])
def test_metrics_that_are_no_function_are_refused(thing):
    with pytest.raises(TypeError, match=r"^evaluator needs a function as metrics_fn, got "):
        evaluator(thing, X)


def test_functions_that_take_any_arguments_are_called():
    for options in ({}, STATEFUL):
        evaluate = evaluator(lambda *args: {"accuracy": 1.0 * len(args)}, X, batch_size=8)
        result = run(evaluate=evaluate, **options)
        assert result.history.validation["accuracy"].tolist() == [3.0 if options else 2.0]
        assert run(evaluate=lambda *_, **__: {"loss": 0.0}, **options).finite


TRACED = {
    "key": lambda x: run(key=jax.random.fold_in(jax.random.key(0), x.astype(int))),
    "parameters": lambda x: run(params=x),
    "data": lambda x: run(dataset=(X + x, X)),
    "model state": lambda x: run(with_state, model_state=x),
    "optimizer state": lambda x: run(optimizer=optax.trace(0.9), opt_state=optax.TraceState(x)),
    "what init closes over": lambda x: run(params=lambda _: x),
    "what the loss closes over": lambda x: run(lambda w, b: squared_error(w, b) * x),
    "what the optimizer closes over": lambda x: run(optimizer=optax.sgd(x)),
}
TRANSFORMATIONS = {
    "jit": lambda f: jax.jit(f)(1.0),
    "vmap": lambda f: jax.vmap(f)(jnp.ones(2)),
    "grad": lambda f: jax.grad(f)(1.0),
}


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
@pytest.mark.parametrize(
    ("what", "transformation"),
    # a number that was rounded is known under `grad`
    sorted({(what, one) for what in TRACED for one in TRANSFORMATIONS} - {("key", "grad")}),
)
def test_inside_a_transformation_the_way_of_ones_own_loop_is_shown(what, transformation):
    function = TRACED[what]
    with pytest.raises(
        TypeError, match=r"^fit runs on the host, .* optimizers\.step in a jax\.lax"
    ):
        TRANSFORMATIONS[transformation](lambda x: function(x).params)


@pytest.mark.parametrize("value", [None, "high", 1j, np.ones(2), {}])
def test_what_score_must_not_return(value):
    sentence = f"fit needs score to return a number, got {value!r}."
    with pytest.raises(TypeError, match=re.escape(sentence)):
        run(evaluate=lambda _: {"loss": 1.0}, score=lambda _: value)


def test_numbers_of_any_kind_are_taken():
    metrics = {"int": 3, "float": 0.5, "bool": True, "numpy": np.float64(0.25), "nothing": 0.0}
    result = run(
        beside(lambda _: metrics),
        batch_size=np.int64(4),
        num_epochs=jnp.int32(2),
        key=jax.random.PRNGKey(0),
        evaluate=lambda w: {"accuracy": jnp.bfloat16(0.5), "right": 3, "loss": np.float32(w)},
    )
    for name, value in metrics.items():
        assert result.history.train[name].tolist() == [value, value]
    assert result.history.validation["accuracy"].tolist() == [0.5, 0.5]
    assert type(result.best_score) is float
    assert run(lambda *_: 2.0).history.train["loss"].tolist() == [2.0]
    assert run(beside(lambda _: None)).finite


NAN, INF = float("nan"), float("inf")

NUMBERS = {
    "int": (3, 3.0),
    "a long one": (2**70, 2.0**70),
    "beyond doubles": (10**400, INF),
    "below doubles": (-(10**400), -INF),
    "bool": (True, 1.0),
    "fraction": (Fraction(-1, 4), -0.25),
    "fraction beyond doubles": (Fraction(10**400, 3), INF),
    "decimal": (Decimal("0.5"), 0.5),
    "decimal beyond doubles": (Decimal("-1e400"), -INF),
    "decimal, not a number": (Decimal("nan"), NAN),
    "int64": (np.int64(2**40), 2.0**40),
    "uint64": (np.uint64(2**63), 2.0**63),
    "int64 without axes": (np.array(-(2**40)), -(2.0**40)),
    "big-endian": (np.array(2**40, ">i8"), 2.0**40),
    "uint8": (np.uint8(200), 200.0),
    "bool of NumPy": (np.bool_(True), 1.0),
    "long double": (np.longdouble("0.5"), 0.5),
    "float16": (np.float16(0.5), 0.5),
    "array": (jnp.int8(-3), -3.0),
}  # each is exact in single precision, or infinite


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_keep_their_value_whatever_their_kind(name):
    """As a metric of a loss, of an evaluator or of a function, and as a score."""
    value, expected = NUMBERS[name]
    assert as_metrics("fit", "loss_fn", {"m": value})["m"].shape == ()
    for found in (
        float(as_metrics("fit", "loss_fn", {"m": value})["m"]),
        float(jax.jit(lambda: as_metrics("fit", "loss_fn", {"m": value}))()["m"]),
        evaluator(lambda _p, _b: {"m": value}, jnp.ones(3), batch_size=2)(None)["m"],
        as_floats("fit", "evaluate", {"m": value})["m"],
        as_score(value),
    ):
        assert type(found) is float
        np.testing.assert_equal(found, expected)


def test_a_metric_too_large_for_any_float_is_infinite_and_no_error():
    result = run(
        beside(lambda _: {"m": 10**400}),
        evaluate=lambda _: {"m": -(10**400)},
        score=lambda m: m["m"],
    )
    assert result.history.train["m"].tolist() == [INF]
    assert result.history.validation["m"].tolist() == [-INF]
    assert result.best_score == -INF


@pytest.mark.parametrize(
    ("scores", "best_epoch"),
    [
        ([NAN, 1.0, 2.0], 3),
        ([1.0, NAN, 0.5], 1),
        ([NAN, -INF, NAN], 2),
        ([-INF, 1.0, NAN], 2),
        ([1.0, INF, NAN], 2),
        ([NAN, NAN, NAN], 3),  # then the last ones, as without scores
        ([2.0, 2.0, 1.0], 1),
    ],
)
def test_no_score_that_is_not_a_number_wins(scores, best_epoch):
    seen, values = [], iter(scores)

    def evaluate(w):
        seen.append(float(w))
        return {"score": next(values)}

    result = run(evaluate=evaluate, score=lambda metrics: metrics["score"], num_epochs=3)
    assert result.best_epoch == best_epoch
    assert float(result.best) == seen[best_epoch - 1]
    np.testing.assert_equal(result.best_score, scores[best_epoch - 1])
    np.testing.assert_array_equal(result.history.validation["score"], scores)


class Unhashable:
    """A function that is an object, compared by what it holds."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def __call__(self, w, batch):
        return squared_error(w, batch)


def test_functions_without_a_hash_are_refused():
    for name, call in {
        "loss_fn": lambda: run(Unhashable()),
        "metrics_fn": lambda: evaluator(Unhashable(), X),
    }.items():
        with pytest.raises(TypeError, match=rf"needs a {name} with a hash, .* got Unhashable: a d"):
            call()
    optimizer = optax.GradientTransformation(Unhashable(), Unhashable())
    with pytest.raises(TypeError, match=r"^fit needs an optimizer with a hash"):
        run(optimizer=optimizer)


@pytest.mark.parametrize("name", [1, None, ("a", 0)])
def test_metrics_are_named_by_texts(name):
    sentence = re.escape(f"needs metrics that are named by texts, got {name!r}.")
    with pytest.raises(TypeError, match=sentence):
        run(beside(lambda out: {name: jnp.mean(out)}))
    with pytest.raises(TypeError, match=sentence):
        run(evaluate=lambda _: {name: 1.0})


def test_a_run_is_diagnosed_where_ranks_are_not_promoted():
    def loss_fn(params, batch):
        return jnp.mean((batch[0][:, None] @ params["w"] - batch[1][:, None]) ** 2)

    with jax.numpy_rank_promotion("raise"):
        result = run(loss_fn, params={"w": jnp.ones((1, 1))}, diagnose_every=1)
    assert len(result.history.diagnoses) == 2
