"""Evaluators average over all examples, whatever the batch size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.training import evaluator


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_the_mean_does_not_depend_on_the_batch_size(batch_size):
    x = jax.random.normal(jax.random.key(0), (7,))
    evaluate = evaluator(lambda p, batch: {"mean": jnp.mean(p * batch)}, x, batch_size=batch_size)
    expected = 2 * np.mean(np.asarray(x, np.float64))
    # A sum of seven float32 terms of order one.
    assert evaluate(jnp.array(2.0))["mean"] == pytest.approx(expected, abs=1e-6)


def test_images_are_normalised_with_the_datasets_constants():
    images = np.full((4, 28, 28), 51, np.uint8)  # 0.2 on the unit scale
    split = Split(images, np.zeros(4, np.int32))
    evaluate = evaluator(
        lambda p, batch: {"value": jnp.mean(batch.images) * p}, Dataset(split, split, 0.1, 0.5)
    )
    # a sum of so many float32 terms, in whatever order the compiler takes
    rounding = images.size * float(np.finfo(np.float32).eps)
    assert evaluate(jnp.array(1.0))["value"] == pytest.approx(0.2, rel=rounding)


def test_a_model_state_is_passed_on():
    evaluate = evaluator(lambda p, batch, state: {"sum": p + state + 0 * batch[0]}, jnp.ones(3))
    assert evaluate(jnp.array(1.0), jnp.array(4.0)) == {"sum": 5.0}


def test_bad_input():
    with pytest.raises(ValueError, match=r"evaluator needs batch_size >= 1, got batch_size=0\."):
        evaluator(lambda p, _: {"x": p}, jnp.ones(3), batch_size=0)
    with pytest.raises(ValueError, match="evaluator needs arrays with a common first axis"):
        evaluator(lambda p, _: {"x": p}, (jnp.ones(3), jnp.ones(2)))
