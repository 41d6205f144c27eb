"""Evaluators average over all examples of the part that is meant, whatever batches and dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.training import evaluator, fit


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_the_mean_does_not_depend_on_the_batch_size(batch_size):
    x = jax.random.normal(jax.random.key(0), (7,))
    evaluate = evaluator(lambda p, batch: {"mean": jnp.mean(p * batch)}, x, batch_size=batch_size)
    expected = 2 * np.mean(np.asarray(x, np.float64))
    # A sum of seven float32 terms of order one.
    assert evaluate(jnp.array(2.0))["mean"] == pytest.approx(expected, abs=1e-6)


def grey(value, num):
    """Images of one grey value, and their labels."""
    return Split(np.full((num, 4, 4), value, np.uint8), np.full(num, value, np.int32))


DATASET = Dataset(train=grey(51, 3), test=grey(102, 5), mean=0.1, std=0.5)  # 0.2, 0.4 of white


def look(p, batch):
    return {"value": jnp.mean(batch.images) * p, "label": jnp.mean(batch.labels.astype(float))}


@pytest.mark.parametrize(
    ("split", "grey_value"),
    [((), 0.4), (("test",), 0.4), (("train",), 0.2), ((grey(153, 4),), 0.6)],
    ids=["default", "test", "train", "validation"],
)
@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_every_part_of_a_dataset_is_normalised_by_the_datasets_constants(
    split, grey_value, batch_size
):
    found = evaluator(look, DATASET, *split, batch_size=batch_size)(jnp.array(1.0))
    # a mean of so many float32 terms, in whatever order the compiler takes
    rounding = DATASET.test.images.size * float(np.finfo(np.float32).eps)
    assert found["value"] == pytest.approx((grey_value - 0.1) / 0.5, rel=rounding)
    assert found["label"] == pytest.approx(255 * grey_value)


@pytest.mark.parametrize("part", ["train", "test"])
def test_bytes_without_their_constants_are_refused(part):
    alone = getattr(DATASET, part)
    with pytest.raises(TypeError, match="evaluator needs a Dataset, which says how to normalise"):
        evaluator(look, alone)
    with pytest.raises(
        TypeError, match=r"fit needs a Dataset, .* got a Split of bytes; .* as split=,"
    ):
        fit(
            lambda w, batch: jnp.mean(w * batch.images),
            jnp.array(1.0),
            None,
            alone,
            batch_size=1,
            num_epochs=1,
            key=jax.random.key(0),
        )


def test_images_that_are_normalised_already_are_used_as_they_are():
    split = Split(jnp.full((3, 2, 2), 0.25), jnp.zeros(3, jnp.int32))
    assert evaluator(look, split)(jnp.array(2.0))["value"] == 0.5


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float16", "float32", "uint8", "int8", "int32", "bool"]
)
def test_the_sum_over_batches_does_not_round_or_overflow_in_the_metrics_dtype(dtype):
    """60 batches of 1000 rows: bfloat16 has 8 bits, float16 ends at 65504, int8 at 127."""
    value = jnp.asarray(1 if dtype == "bool" else 0.9 if "float" in dtype else 100, dtype)
    x = jnp.zeros(60_000, jnp.int8)
    found = evaluator(lambda p, _: {"mean": p}, x)(value)["mean"]
    # sixty equal terms in double precision
    assert found == pytest.approx(float(value), rel=60 * np.finfo(np.float64).eps)


def test_the_sum_over_batches_is_that_of_double_precision():
    """Terms that cancel: in float32 the small one is lost beside the large ones."""
    x = jnp.array([1e8, 1.0, -1e8])
    found = evaluator(lambda _, batch: {"mean": jnp.mean(batch)}, x, batch_size=1)(None)
    assert found["mean"] == pytest.approx(1 / 3, rel=1e-15)


def test_rows_beyond_the_mantissa_of_float32_are_counted_to_the_last():
    """One row of 2 ** 24 + 3 is different: float32 cannot tell these counts apart."""
    size = 2**24 + 3
    x = np.zeros(size, np.uint8)
    x[-1] = 1

    def metrics(_, batch):
        return {"last": jnp.sum(batch, dtype=jnp.float32) / batch.size}

    assert evaluator(metrics, x, batch_size=2**24)(None)["last"] * size == pytest.approx(1, 1e-6)
    whole = evaluator(lambda _p, _b: {"one": jnp.float32(1)}, x, batch_size=2**24)(None)
    assert whole["one"] == 1


def test_numbers_of_python_and_numpy_are_metrics_too():
    metrics = {"int": 3, "float": 0.5, "bool": True, "big": 10**12, "numpy": np.float64(0.25)}
    found = evaluator(lambda _p, _b: metrics, jnp.ones(3), batch_size=2)(None)
    assert found == pytest.approx({k: float(v) for k, v in metrics.items()}, rel=1e-7)  # float32
    assert all(type(value) is float for value in found.values())


def test_a_metric_that_is_not_finite_stays_so():
    x = jnp.array([1.0, jnp.inf, -jnp.inf])
    evaluate = evaluator(lambda _, batch: {"mean": jnp.mean(batch)}, x, batch_size=1)
    assert np.isnan(evaluate(None)["mean"])
    found = evaluator(lambda _, batch: {"mean": jnp.mean(batch)}, x[:2], batch_size=1)(None)
    assert found["mean"] == np.inf


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_inside_a_transformation_the_means_are_arrays(dtype):
    """Seven rows of a constant; three batches, the last one ragged."""
    evaluate = evaluator(
        lambda p, x: {"p": p + 0 * x[0], "n": p}, jnp.zeros(7, dtype), batch_size=3
    )
    params = jnp.array([1, 3], dtype)
    for found in (jax.vmap(evaluate)(params), jax.jit(jax.vmap(evaluate))(params)):
        for mean in found.values():
            assert mean.dtype == jnp.float32
            np.testing.assert_allclose(mean, [1, 3], rtol=3 * np.finfo(np.float32).eps)
    if dtype == "float32":  # the mean of p itself
        slope = jax.grad(lambda p: evaluate(p)["n"])(jnp.float32(2))
        np.testing.assert_allclose(slope, 1, rtol=3 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("batch_size", [np.int64(2), jnp.int32(2)])
def test_a_batch_size_may_be_any_integer(batch_size):
    found = evaluator(lambda p, _: {"p": p}, jnp.ones(3), batch_size=batch_size)(jnp.ones(()))
    assert found == {"p": 1.0}
    assert type(found["p"]) is float


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "bool", "float32"])
def test_a_training_record_is_kept_in_single_precision(dtype):
    value = jnp.asarray(1 if dtype == "bool" else 3, dtype)
    result = fit(
        lambda w, x: (jnp.mean((w * x) ** 2), {"metric": value}),
        jnp.ones(()),
        optax.sgd(0.1),
        jnp.ones(4),
        batch_size=2,
        num_epochs=1,
        key=jax.random.key(0),
        progress=False,
    )
    assert result.history.steps["metric"].dtype == np.float32
    assert result.history.train["metric"].tolist() == [float(value)]


def test_a_model_state_is_passed_on():
    evaluate = evaluator(lambda p, batch, state: {"sum": p + state + 0 * batch[0]}, jnp.ones(3))
    assert evaluate(jnp.array(1.0), jnp.array(4.0)) == {"sum": 5.0}


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        (lambda _, b: jnp.mean(b), r"needs metrics_fn to return a dictionary .*, got an array"),
        (lambda _, b: (jnp.mean(b), {}), r"needs metrics_fn to return a dictionary .*, got tuple"),
        (lambda _, b: {"each": b}, r"needs real scalar metrics, .* got float32\[3\] for 'each'\."),
        (lambda _, b: {"c": jax.lax.complex(b[0], b[0])}, r"got complex64\[\] for 'c'\."),
        (lambda _, b: {"a": {"b": jnp.mean(b)}}, r"one flat dictionary, got dict for 'a'\."),
        (lambda _p, _b: {"name": "text"}, r"one flat dictionary, got str for 'name'\."),
        (lambda _p, _b: {"nothing": None}, r"one flat dictionary, got NoneType for 'nothing'\."),
    ],
    ids=["scalar", "pair", "vector", "complex", "nested", "text", "none"],
)
def test_metrics_that_are_no_scalars_by_name_are_refused(metrics, sentence):
    with pytest.raises(TypeError, match=sentence):
        evaluator(metrics, jnp.ones(3))(None)


def test_bad_input():
    metrics = lambda p, _: {"x": p}
    with pytest.raises(ValueError, match=r"evaluator needs batch_size >= 1, got batch_size=0\."):
        evaluator(metrics, jnp.ones(3), batch_size=0)
    with pytest.raises(TypeError, match=r"an integer batch_size, got batch_size=100\.0\."):
        evaluator(metrics, jnp.ones(3), batch_size=100.0)
    with pytest.raises(ValueError, match="evaluator needs arrays with a common first axis"):
        evaluator(metrics, (jnp.ones(3), jnp.ones(2)))
    with pytest.raises(ValueError, match=r"'test', 'train' or a Split, got split='validation'\."):
        evaluator(metrics, DATASET, "validation")
    with pytest.raises(ValueError, match=r"needs a Dataset to take a split of, got tuple\."):
        evaluator(metrics, (jnp.ones(3),), "train")
    with pytest.raises(ValueError, match=r"needs a Dataset to take a split of, got Split\."):
        evaluator(metrics, DATASET.train, DATASET.test)
    with pytest.raises(TypeError, match=r"evaluator needs a Split of uint8 images, got float32\."):
        evaluator(metrics, DATASET, Split(np.ones((2, 2, 2), np.float32), np.ones(2, np.int32)))
    with pytest.raises(TypeError, match=r"evaluator needs a Split of uint8 images, got tuple\."):
        evaluator(metrics, DATASET, (1, 2))
    with pytest.raises(ValueError, match=r"evaluator needs at least one example, got none\."):
        evaluator(metrics, jnp.ones((0, 3)))
