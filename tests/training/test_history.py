"""Columns of a history have a number an epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from jaxopt_tut.training import fit

NAN = float("nan")


def run(metrics, **options):
    rows = iter(metrics)
    return fit(
        lambda w, _: w, 1.0, optax.sgd(0.1), jnp.ones(2), batch_size=1, num_epochs=len(metrics),
        key=jax.random.key(0), progress=False, evaluate=lambda _: next(rows), **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "columns"),
    [
        (
            [{"loss": 1.0, "a": 2.0}, {"loss": 2.0}, {"loss": 3.0, "a": 4.0}],
            {"loss": [1, 2, 3], "a": [2, NAN, 4]},
        ),
        ([{"loss": 1.0}, {"loss": 2.0, "a": 5.0}], {"loss": [1, 2], "a": [NAN, 5]}),
        ([{"loss": 1.0}, {}, {"loss": 3.0}], {"loss": [1, NAN, 3]}),
        ([{"loss": 1.0}, {"b": 2.0}], {"loss": [1, NAN], "b": [NAN, 2]}),
    ],
)
def test_a_metric_that_is_left_out_is_nan_in_its_epoch(metrics, columns):
    found = run(metrics).history.validation
    assert set(found) == set(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column)


@pytest.mark.parametrize(
    ("metrics", "best"),
    [
        ([{"accuracy": 0.5, "loss": 9.0}, {"loss": 0.1}], 1),
        ([{"loss": 9.0}, {"accuracy": 0.5, "loss": 1.0}, {"accuracy": 0.9, "loss": 2.0}], 2),
        ([{"loss": 9.0}, {"accuracy": 0.5}], 1),
    ],
)
def test_an_accuracy_is_not_compared_with_a_loss(metrics, best):
    assert run(metrics).best_epoch == best


def test_a_history_is_a_table_of_epochs_and_one_of_steps():
    result = run([{"loss": 1.0}, {"loss": 2.0, "a": 5.0}])
    table = pd.DataFrame(result.history.columns())
    assert list(table.columns) == ["epoch", "loss", "validation_loss", "validation_a"]
    assert table["epoch"].tolist() == [1, 2]
    assert table["validation_loss"].tolist() == [1, 2]
    np.testing.assert_array_equal(table["validation_a"], [NAN, 5])
    np.testing.assert_array_equal(table["loss"], result.history.train["loss"])
    assert len(pd.DataFrame(result.history.steps)) == 4


def test_an_epoch_that_was_not_evaluated_is_nan_in_the_table():
    def metrics(_):
        raise KeyboardInterrupt

    result = fit(
        lambda w, _: w, 1.0, optax.sgd(0.1), jnp.ones(2), batch_size=1, num_epochs=3,
        key=jax.random.key(0), progress=False, evaluate=metrics,
    )  # fmt: skip
    assert result.history.columns()["epoch"].tolist() == [1]
    assert len(pd.DataFrame(result.history.columns())) == 1
    empty = fit(
        lambda w, _: w, 1.0, optax.sgd(0.1), jnp.ones(2), batch_size=1, num_epochs=0,
        key=jax.random.key(0), progress=False,
    )  # fmt: skip
    assert list(pd.DataFrame(empty.history.columns()).columns) == ["epoch", "loss"]
