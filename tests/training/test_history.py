"""Columns of a history have a number an epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
