"""`sweep` gives what a loop gives, whatever the chunk, the strategy and the tree of results."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Map, Vmap, grid, sweep, train
from jaxopt_tut.training.sweeps import devices, planning, program

KEYS = jax.random.split(jax.random.key(0), 3)
STRATEGIES = [Vmap(), Map(), Map(lanes=2), None]


def loop(run, hyperparameters, keys):
    """Call a jitted run for one pair after the other."""
    jitted, num = jax.jit(run), len(jax.tree.leaves(hyperparameters)[0])
    take = lambda at: jax.tree.map(lambda leaf: jnp.asarray(leaf)[at], hyperparameters)
    rows = [[jitted(take(at), key) for key in keys] for at in range(num)]
    stack = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    return stack([stack(row) for row in rows])


def same_bits(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in leaves)


def network(hyperparameters, key):
    x = jax.random.normal(jax.random.key(1), (4, 8, 6))
    batches = x, jnp.argmax(x[..., :3], axis=-1)

    def loss_fn(params, batch):
        logits = mlp.apply(params, batch[0])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))

    optimizer = optimizers.adam(hyperparameters["rate"])
    return train(loss_fn, mlp.init(key, (6, 5, 3)), optimizer, batches, num_steps=12)


def test_map_of_one_lane_is_a_python_loop_to_the_bit():
    configurations = grid(rate=np.logspace(-3, 0, 4))
    swept = sweep(network, configurations, keys=KEYS, strategy=Map(), chunk=5)
    assert same_bits(swept.results, loop(network, configurations, KEYS))
    assert swept.results.losses.shape == (4, 3, 12)
    assert swept.finite.all()
    assert swept.done.all()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("chunk", [4, 40])
def test_every_strategy_gives_the_numbers_of_a_loop(strategy, chunk):
    run = lambda h, key: {"x": h["a"] * jax.random.normal(key, (2,)), "n": h["n"] + 1}
    configurations = grid(a=[0.5, 1.0, 2.0], n=[1, 2])
    swept = sweep(run, configurations, keys=KEYS, strategy=strategy, chunk=chunk)
    expected = loop(run, configurations, KEYS)
    np.testing.assert_allclose(swept.results["x"], expected["x"], rtol=1e-6)  # one product
    np.testing.assert_array_equal(swept.results["n"], expected["n"])
    assert swept.chunk == chunk
    assert swept.strategy == strategy or strategy is None


def test_a_run_that_diverges_stays_in_its_lane():
    run = lambda h, key: jax.lax.fori_loop(0, 50, lambda _, w: w * (1 - h), jax.random.normal(key))
    rates = jnp.array([0.5, 1e4, 1.0])
    for strategy in STRATEGIES[:3]:
        swept = sweep(run, rates, keys=KEYS, strategy=strategy, chunk=4)
        np.testing.assert_array_equal(swept.finite, [[True] * 3, [False] * 3, [True] * 3])
        assert swept.best(jnp.abs).index == 2


def test_time_of_each_strategy_is_told_where_one_is_chosen():
    swept = sweep(lambda h, key: h + jax.random.normal(key), jnp.ones(40), keys=KEYS)
    assert set(swept.timings) == {"Map(lanes=1)", "Map(lanes=8)", "Vmap()"}
    assert repr(swept.strategy) == min(swept.timings, key=lambda name: swept.timings[name])
    assert not swept.messages
    assert sweep(lambda h, _: h, jnp.ones(1), keys=KEYS[:1]).strategy == Map()


def test_the_fastest_strategy_is_chosen(monkeypatch):
    run = lambda h, key: h + jax.random.normal(key)
    for fastest in (Map(), Map(lanes=4), Vmap()):
        lanes = {Map(): 1, Map(lanes=4): 4, Vmap(): 12}[fastest]
        cost = lambda _, __, num, lanes=lanes: 1.0 if num == lanes else 2.0
        monkeypatch.setattr(planning, "_seconds", cost)
        assert sweep(run, jnp.ones(12), keys=KEYS, chunk=12).strategy == fastest


def test_a_run_that_cannot_be_vectorised_is_mapped_and_said():
    double = lambda x: np.asarray(2 * x)
    run = lambda h, _: jax.pure_callback(double, jax.ShapeDtypeStruct((), jnp.float32), h)
    with pytest.warns(
        UserWarning, match=r"run is not vectorised, so Map\(lanes=1\) is taken: vmap"
    ):
        swept = sweep(run, jnp.arange(3.0), keys=KEYS)
    assert swept.strategy == Map()
    np.testing.assert_array_equal(swept.results[:, 0], [0.0, 2.0, 4.0])


def test_a_chunk_larger_than_memory_is_halved_and_said(monkeypatch):
    run = lambda h, key: jnp.sum(jnp.sort(jax.random.normal(key, (1000,)) * h))
    needed, halved = {}, []
    bytes_needed = program.Programs.bytes_needed

    def noted(self, lanes, chunk, device):
        needed[chunk] = bytes_needed(self, lanes, chunk, device)
        halved.append(chunk)
        return needed[chunk]

    monkeypatch.setattr(program.Programs, "bytes_needed", noted)
    monkeypatch.setattr(devices.Devices, "free_bytes", lambda _: 200_000)
    with pytest.warns(UserWarning, match=r"A chunk of 24 does not fit into the 0\.2 MB that are"):
        swept = sweep(run, jnp.ones(8), keys=KEYS, chunk=24, strategy=Vmap())
    assert halved[: len(halved)] == [24, 12, 6, 3, 2, 1][: len(halved)]
    assert 1 < len(halved) < 6
    assert swept.chunk == halved[-1]
    assert needed[halved[-1]] <= 0.8 * 200_000 < needed[halved[-2]]
    assert needed[24] > 24 * 4000  # the numbers alone
    assert f"it was halved to {swept.chunk}." in swept.messages[0]
    np.testing.assert_array_equal(swept.done, True)
    monkeypatch.setattr(devices.Devices, "free_bytes", lambda _: 100)
    with pytest.warns(UserWarning, match=r"One group of 1 takes .* MB of the 0\.0001 MB that are"):
        sweep(run, jnp.ones(2), keys=KEYS[:1], strategy=Map(), chunk=1)


def test_large_arrays_that_a_run_closes_over_are_arguments_of_the_program():
    data = jnp.arange(2.0 * program.LARGE).reshape(2, -1)
    small = jnp.array([2.0])
    run = lambda h, key: jnp.max(data * h) + small[0] + 0 * jax.random.normal(key)
    pairs = program.Pairs((np.ones(2, np.float32),), jax.tree.structure(0), ("",),
                          np.asarray(jax.random.key_data(KEYS)), "threefry2x32")  # fmt: skip
    programs = program.Programs(program.trace(run, pairs), pairs)
    assert programs.compiled(1).memory_analysis().argument_size_in_bytes >= data.nbytes
    swept = sweep(run, jnp.array([0.5, 1.0]), keys=KEYS, strategy=Vmap())
    np.testing.assert_array_equal(swept.results[:, 0], [program.LARGE + 1.5, 2 * program.LARGE + 1])


Pair = collections.namedtuple("Pair", "a b")


def test_trees_keys_and_dtypes_of_results_come_back():
    def run(h, key):
        half = jnp.bfloat16(h.a) * 2
        return {"half": half, "key": key, "none": None, "pair": Pair(h.b, jnp.zeros((0, 2)))}

    configurations = Pair(jnp.array([0.5, 1.5]), jnp.array([1 + 2j, 3j]))
    swept = sweep(run, configurations, keys=KEYS, strategy=Vmap(), chunk=4)
    assert swept.results["half"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(swept.results["half"][:, 0].astype(float), [1.0, 3.0])
    np.testing.assert_array_equal(
        jax.random.key_data(swept.results["key"][1]), jax.random.key_data(KEYS)
    )
    np.testing.assert_array_equal(swept.results["pair"].a, [[1 + 2j] * 3, [3j] * 3])
    assert swept.results["pair"].b.shape == (2, 3, 0, 2)
    assert swept.finite.all()


def test_older_keys_will_do():
    keys = jax.random.split(jax.random.PRNGKey(0), 2)
    run = lambda h, key: h * jax.random.normal(key)
    swept = sweep(run, jnp.ones(2), keys=keys, strategy=Map())
    np.testing.assert_array_equal(swept.results, loop(run, jnp.ones(2), keys))


@pytest.mark.usefixtures("x64")
def test_double_precision_stays():
    swept = sweep(lambda h, _: h / 3, grid(h=[1.0])["h"], keys=KEYS, strategy=Vmap())
    assert swept.results[0, 0] == 1 / 3


def run_once(h, key):
    return h["rate"] * jax.random.normal(key)


RATES = {"rate": jnp.ones(4)}


@pytest.mark.parametrize(("options", "sentence"), [
    ({"hyperparameters": {"a": jnp.ones(2), "b": jnp.ones(3)}},
     r"sweep needs hyperparameters of one length, got 2 at 'a' and 3 at 'b'\."),
    ({"hyperparameters": {"rate": [0.1, 0.2]}},
     r"sweep needs hyperparameters with the configurations along their first axis, got 0\.1 at "
     r"'rate/0': grid\(\.\.\.\) and sample\(\.\.\.\) make them\."),
    ({"hyperparameters": {"rate": jnp.float32(1)}}, r"first axis, got shape \(\) at 'rate'"),
    ({"hyperparameters": {}}, r"sweep needs at least one hyper-parameter, got none\."),
    ({"keys": jax.random.key(0)}, r"sweep needs keys along one axis, .*, got key<fry>\[\]\."),
    ({"keys": jnp.arange(3)}, r"sweep needs keys along one axis, .*, got int32\[3\]\."),
    ({"keys": 3}, r"sweep needs keys along one axis, .*, got 3\."),
    ({"chunk": 0}, r"sweep needs chunk >= 1, got chunk=0\."),
    ({"chunk": 2.5}, r"sweep needs an integer chunk, got chunk=2\.5\."),
    ({"chunk": 5, "strategy": Map(lanes=2)},
     r"sweep needs a chunk that lanes=2 divides, got chunk=5\."),
    ({"strategy": "vmap"}, r"sweep needs Vmap\(\), Map\(lanes\) or None as strategy, got 'vmap'\."),
    ({"strategy": Vmap}, r"sweep needs Vmap\(\), Map\(lanes\) or None as strategy"),
    ({"mesh": 2}, r"sweep needs a mesh of jax\.make_mesh, got int\."),
    ({"executor": 2}, r"sweep needs an executor of concurrent\.futures, .* got int\."),
    ({"run": 3}, r"sweep needs a function run\(hyperparameters, key\), got int\."),
    ({"run": lambda h: h}, r"sweep calls run\(hyperparameters, key\), got one of \(h\)"),
    ({"run": lambda *_: None}, r"sweep needs run to return at least one array, got none\."),
    ({"run": lambda *_: "text"}, r"sweep could not trace run\(hyperparameters, key\) for one conf"),
])  # fmt: skip
def test_refuses_what_it_cannot_run(options, sentence):
    given = {"run": run_once, "hyperparameters": RATES, "keys": KEYS, **options}
    with pytest.raises((TypeError, ValueError), match=sentence):
        sweep(**given)


def test_a_run_that_cannot_be_traced_is_named_with_its_error():
    def run(h, key):
        del key
        return h["rate"] if h["rate"] > 0 else 0.0

    with pytest.raises(
        ValueError, match=r"for one configuration \(rate: float32\[\]\): Tracer"
    ) as e:
        sweep(run, RATES, keys=KEYS)
    assert isinstance(e.value.__cause__, jax.errors.TracerBoolConversionError)


def test_refuses_to_run_in_a_trace():
    with pytest.raises(TypeError, match=r"sweep runs on the host, got a traced float32\[4\]; insi"):
        jax.jit(lambda rate: sweep(run_once, {"rate": rate}, keys=KEYS))(jnp.ones(4))
    with pytest.raises(TypeError, match=r"sweep runs on the host, got a call that is traced; insi"):
        jax.jit(lambda x: sweep(lambda h, _: h["rate"] + x, RATES, keys=KEYS))(1.0)
    with pytest.raises(TypeError, match=r"sweep runs on the host, got a run that closes over a tr"):
        jax.grad(lambda x: sweep(lambda h, _: h["rate"] + x, RATES, keys=KEYS).results[0, 0])(1.0)


@pytest.mark.parametrize("lanes", [0, -1])
def test_map_refuses_no_lane(lanes):
    with pytest.raises(ValueError, match=rf"Map needs lanes >= 1, got lanes={lanes}\."):
        Map(lanes=lanes)


@pytest.mark.parametrize(("size", "chunk"), [
    (1, 1), (7, 7), (8, 8), (20, 7), (63, 8), (64, 8), (100, 16), (9000, 568), (10**6, 1024),
])  # fmt: skip
def test_default_chunks_are_an_eighth_of_all_within_limits(size, chunk):
    assert planning.default_chunk(size) == chunk


@pytest.mark.parametrize("strategy", [Map(), Map(lanes=2), Vmap(), None])
def test_constants_come_back_as_columns_by_every_strategy(strategy):
    constants = {"float": 1.5, "int": 3, "bool": True, "numpy": np.float32(2), "inf": np.inf,
                 "zeros": jnp.zeros(2), "complex": 1j}  # fmt: skip
    keys = jax.random.split(jax.random.key(0), 2)
    run = lambda h, _: {**constants, "loss": h["rate"], "same": h["rate"]}
    result = sweep(run, grid(rate=[0.5, 1.0]), keys=keys, strategy=strategy, chunk=2)
    for name, value in constants.items():
        expected = jnp.asarray(value)
        assert result.results[name].dtype == expected.dtype
        np.testing.assert_array_equal(
            result.results[name], np.broadcast_to(expected, (2, 2, *expected.shape))
        )
    np.testing.assert_array_equal(result.results["same"], [[0.5, 0.5], [1.0, 1.0]])
    alone = sweep(lambda *_: 1.0, grid(rate=[0.5]), keys=keys, strategy=strategy)
    np.testing.assert_array_equal(alone.results, [[1.0, 1.0]])
