"""What a sweep returns: the best configuration, and a table."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest

from jaxopt_tut.training import Map, Vmap, grid, sweep, train

KEYS = jax.random.split(jax.random.key(0), 4)
RATES = grid(rate=[0.5, 1.0, 1.5], w=[[1.0, 2.0]])


def swept(run, hyperparameters=RATES, keys=KEYS):
    return sweep(run, hyperparameters, keys=keys, strategy=Vmap())


def noisy(h, key):
    return (h["rate"] - 1.0) ** 2 + 0.01 * jax.random.normal(key)


def test_best_has_the_smallest_mean_and_its_error():
    result = swept(noisy)
    best = result.best()
    scores = np.asarray(result.results, float)
    assert best.index == int(scores.mean(axis=1).argmin()) == 1
    assert float(best.hyperparameters["rate"]) == 1.0
    np.testing.assert_allclose(best.score, scores[1].mean(), rtol=1e-12)
    np.testing.assert_allclose(best.standard_error, scores[1].std(ddof=1) / 2, rtol=1e-12)
    np.testing.assert_array_equal(best.results, result.results[1])
    assert np.isnan(swept(noisy, keys=KEYS[:1]).best().standard_error)


@pytest.mark.parametrize(("make", "scores"), [
    (lambda x: x, None),
    (lambda x: {"loss": x, "other": -x}, None),
    (lambda x: {"score": -x}, None),
    (lambda x: {"accuracy": -x, "n": 3}, None),
    (lambda x: (x, x), lambda results: results[0]),
])  # fmt: skip
def test_the_score_is_found_by_its_name(make, scores):
    assert swept(lambda h, key: make(noisy(h, key))).best(scores).index == 1


def test_the_score_of_a_training_is_its_last_loss_and_a_diverged_one_is_the_worst():
    def run(h, key):
        start = 3.0 + jax.random.normal(key)
        batches = jnp.array([1.0])
        return train(lambda w, b: (w - b) ** 2, start, optax.sgd(h), batches, num_steps=200)

    result = swept(run, jnp.array([0.1, 1e30, 0.4]))
    np.testing.assert_array_equal(result.finite[:, 0], [True, False, True])
    assert np.isinf(result.scores()[1]).all()
    assert result.best().index == 0 or result.best().score == 0.0
    table = result.table()
    np.testing.assert_array_equal(table["loss"].reshape(3, 4), result.results.losses[..., -1])


def test_no_finite_configuration_is_a_sentence():
    with pytest.raises(
        ValueError, match=r"Sweep\.best needs a configuration that is finite with al"
    ):
        swept(lambda h, _: h["rate"] * jnp.nan).best()
    with pytest.raises(ValueError, match=r"Sweep\.scores needs scores=, a function from results"):
        swept(lambda h, _: (h["rate"], h["rate"])).best()
    with pytest.raises(ValueError, match=r"of \[3, 4\] configurations and keys, got shape \(3,\)"):
        swept(noisy).best(lambda results: results[:, 0])


def test_the_table_has_a_row_a_pair_and_reads_back_as_it_is(tmp_path):
    run = lambda h, key: {"rate": noisy(h, key), "large": jnp.ones(17), "n": 2 * h["w"]}
    result = swept(run)
    table = result.table()
    assert list(table) == [
        "configuration", "rate", "w[0]", "w[1]", "key", "n[0]", "n[1]", "result rate", "finite",
        "done",
    ]  # fmt: skip
    assert pandas.DataFrame(table).shape == (12, 10)
    np.testing.assert_array_equal(table["rate"], np.repeat([0.5, 1.0, 1.5], 4))
    np.testing.assert_array_equal(table["result rate"].reshape(3, 4), result.results["rate"])
    result.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    read = np.array([row["result rate"] for row in rows], np.float32)
    np.testing.assert_array_equal(read, table["result rate"])


def test_numbers_without_a_name_get_one():
    result = sweep(lambda h, _: h, jnp.ones(2), keys=KEYS, strategy=Map())
    assert list(result.table()) == ["configuration", "value", "key", "result", "finite", "done"]


def test_a_sweep_is_a_tree():
    result = sweep(noisy, RATES, keys=KEYS, strategy=Map())
    doubled = jax.tree.map(lambda leaf: leaf, result)
    assert doubled.strategy == Map()
    np.testing.assert_array_equal(doubled.results, result.results)


@pytest.mark.parametrize("name", ["configuration", "key", "finite", "done", "rate", "result loss"])
def test_no_column_takes_the_place_of_another(name):
    def run(h, key):
        return {name: h["rate"] + 7.0, "loss": h["rate"], "drawn": key}

    given = {"rate": jnp.arange(3.0), name: 10.0 + jnp.arange(3.0), "loss": 20.0 + jnp.arange(3.0)}
    result = swept(run, given)
    table = result.table()
    columns = [tuple(column.tolist()) for column in table.values()]
    for leaf in jax.tree.leaves((given, {k: v[:, 0] for k, v in result.results.items()
                                         if k != "drawn"})):  # fmt: skip
        assert tuple(np.repeat(leaf, 4).tolist()) in columns
    np.testing.assert_array_equal(table["configuration"], np.repeat(np.arange(3), 4))
    np.testing.assert_array_equal(table["key"], np.tile(np.arange(4), 3))
    assert table["finite"].dtype == table["done"].dtype == bool
    assert table["done"].all()
    assert len(table) == 4 + len(given) + 2


def test_a_table_is_written_into_folders_that_are_made_and_nowhere_else(tmp_path):
    result = swept(noisy)
    result.to_csv(tmp_path / "new" / "table.csv")
    assert (tmp_path / "new" / "table.csv").read_text().startswith("configuration,rate,")
    with pytest.raises(IsADirectoryError, match=r"Sweep\.to_csv needs a file, got the folder"):
        result.to_csv(tmp_path)
    with pytest.raises(TypeError, match=r"Sweep\.to_csv needs a path, got 3"):
        result.to_csv(3)


def test_best_says_what_is_missing():
    result = swept(noisy)
    done = result.done.copy()
    done[1, 2] = False
    with pytest.warns(UserWarning, match=r"leaves configurations out: 1 of 12 pairs are missing"):
        assert dataclasses.replace(result, done=done).best().index != 1
    with pytest.raises(ValueError, match=r"got none of 3; 12 of 12 pairs are missing"):
        dataclasses.replace(result, done=np.zeros_like(done)).best()
