"""Means over chunks are those over all examples, however the data come and whoever leads."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.datasets.inner import mean_over, read_chunks

X = np.random.default_rng(0).normal(size=(23, 3))
Y = np.arange(23, dtype=np.int32)
BYTES = np.random.default_rng(1).integers(0, 256, (23, 2, 2)).astype(np.uint8)
CALLS = []


def moments(batch, power=1.0):
    """Count its traces: one a program."""
    CALLS.append(None)
    x, y = batch
    power = jnp.asarray(power, x.dtype)
    return {"x": jnp.mean(power * x, axis=0), "y": jnp.mean(y.astype(x.dtype) * x[:, 0] ** 2)}


def expected(x=X, y=Y, power=1.0):
    return {"x": power * x.mean(0), "y": (y * x[:, 0] ** 2).mean()}


class Loader:
    """Yields batches of unequal size anew whenever it is asked."""

    def __init__(self, *cuts):
        self.cuts = cuts

    def __iter__(self):
        for cut in self.cuts:
            yield X[cut], Y[cut]


CUTS = slice(0, 11), slice(11, 14), slice(14, 23)
SOURCES = {
    "whole": ((X, Y),),
    "jax arrays": ((jnp.asarray(X, jnp.float32), jnp.asarray(Y)),),
    "several": tuple((X[cut], Y[cut]) for cut in CUTS),
    "host": (Loader(*CUTS),),
    "host and device": ((X[:11], Y[:11]), Loader(*CUTS[1:])),
}


def close(got, want, tolerance):
    jax.tree.map(
        lambda g, w: np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance), got, want
    )


@pytest.mark.parametrize("batch_size", [None, 1, 4, 11])
@pytest.mark.parametrize("name", SOURCES)
def test_the_mean_over_chunks_is_that_over_all_examples(name, batch_size):
    with jax.enable_x64(name != "jax arrays"):
        chunks = read_chunks("hessian", SOURCES[name], batch_size)
        got = mean_over(chunks, moments, 2.0)
        # sums of 23 terms round in each: a few units of the last digit
        close(got, expected(power=2.0), 2e-6 if name == "jax arrays" else 1e-14)
        assert chunks.needs_host == name.startswith("host")


@pytest.mark.parametrize("per_dispatch", [1, 2, 100])
def test_several_chunks_a_dispatch_are_added_one_by_one(per_dispatch):
    chunks = read_chunks("hessian", SOURCES["several"], 2)
    close(mean_over(chunks, moments, per_dispatch=per_dispatch), expected(), 2e-6)


@pytest.mark.parametrize("batch_size", [None, 4, 23])
def test_the_mean_is_the_same_in_a_trace_and_has_derivatives(batch_size):
    with jax.enable_x64(True):
        chunks = read_chunks("hessian", ((X, Y),), batch_size)
        mean = lambda chunks, power: mean_over(chunks, moments, power)
        close(jax.jit(mean)(chunks, 3.0), expected(power=3.0), 1e-14)
        powers = jnp.array([1.0, 2.0])
        close(
            jax.vmap(mean, (None, 0))(chunks, powers)["x"],
            np.stack([X.mean(0), 2 * X.mean(0)]),
            1e-14,
        )
        slope = jax.grad(lambda power: jnp.sum(mean(chunks, power)["x"]))(2.0)
        close(slope, X.mean(0).sum(), 1e-14)


def test_other_numbers_of_the_same_shapes_find_the_same_two_programs():
    call = lambda scale, size: mean_over(
        read_chunks("hessian", ((scale * X, Y),), size), moments, scale
    )
    jax.clear_caches()
    CALLS.clear()
    call(1.0, 5)
    assert len(CALLS) == 3  # for the shapes of the sums, and for chunks of five and of three
    call(2.0, 5)
    assert len(CALLS) == 3


def test_images_stay_bytes_and_are_normalised_chunk_by_chunk():
    dataset = Dataset(Split(BYTES, Y), Split(BYTES[:2], Y[:2]), 0.25, 0.5)
    chunks = read_chunks("hessian", (dataset,), 4)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(chunks.parts[0].data.arrays)} == {
        "uint8",
        "int32",
    }
    mean = mean_over(chunks, lambda batch: jnp.mean(batch.images, 0))
    close(mean, ((BYTES / 255 - 0.25) / 0.5).mean(0), 2e-6)


@pytest.mark.parametrize(
    "batch", [None, (), 3.0, {"x": X, "temperature": 2.0}, (X, Y[:4]), jax.random.key(3)], ids=str
)
def test_one_batch_passes_as_it_is(batch):
    seen = []
    mean_over(read_chunks("hessian", (batch,), None), lambda batch: seen.append(batch) or 0.0)
    assert jax.tree.structure(seen[0]) == jax.tree.structure(batch)
    assert list(map(np.shape, jax.tree.leaves(seen[0]))) == list(
        map(np.shape, jax.tree.leaves(batch))
    )


def test_batches_without_examples_count_as_one_each():
    chunks = read_chunks("hessian", (1.0, 2.0, 6.0), None)
    assert chunks.num_examples == 3
    assert float(mean_over(chunks, lambda batch: batch)) == 3.0


def test_no_batch_at_all_is_none():
    assert (
        float(
            mean_over(read_chunks("hessian", (), None), lambda batch: 1.0 if batch is None else 0.0)
        )
        == 1
    )


def test_halves_are_summed_in_single_precision():
    ones = np.ones(4096, np.float16)  # a sum of them in halves ends at 2048
    mean = mean_over(read_chunks("hessian", (ones,), 1), jnp.sum)
    assert mean.dtype == jnp.float32
    assert float(mean) == 1.0


def test_counts_say_what_there_is():
    chunks = read_chunks("hessian", ((X, Y), (X[:3], Y[:3])), 5)
    assert (chunks.num_examples, chunks.num_chunks) == (26, 6)
    assert [size for _, size in chunks.pieces()] == [5, 5, 5, 5, 3, 3]
    host = read_chunks("hessian", SOURCES["host"], 5)
    assert (host.num_examples, host.num_chunks) == (None, None)
    assert [size for _, size in host.pieces()] == [5, 5, 1, 3, 5, 4]


def generator():
    yield X, Y


MISTAKES = {
    "generator": (
        (generator(),), None, TypeError,
        "hessian needs batches that can be gone through again and again, got a generator, which "
        "can be but once: make a list of it and hand over *batches, or a class whose __iter__ "
        "starts anew.",
    ),
    "zero": (((X, Y),), 0, ValueError, "hessian needs batch_size >= 1, got batch_size=0."),
    "fraction": (
        ((X, Y),), 2.5, TypeError,
        "hessian needs a whole number as batch_size, got batch_size=2.5.",
    ),
    "too large": (
        ((X, Y), (X[:3], Y[:3])), 24, ValueError,
        "hessian needs 1 <= batch_size <= number of examples (23), got batch_size=24.",
    ),
    "unequal axes": (
        ((X, Y[:4]),), 2, ValueError,
        "hessian needs arrays with a common first axis, got (23,) at '0' and (4,) at '1'.",
    ),
    "unknown weight": (
        ((X, Y[:4]), (X, Y)), None, ValueError,
        "hessian needs arrays with a common first axis, got (23,) at '0' and (4,) at '1'.",
    ),
    "text": (
        ({"name": "x"},), None, TypeError,
        "hessian needs arrays of numbers as dataset, got str at 'name'.",
    ),
    "no examples": (
        ((X[:0], Y[:0]),), None, ValueError, "hessian needs at least one example, got none.",
    ),
    "bytes": (
        (Split(BYTES, Y),), None, TypeError,
        "hessian needs a Dataset, which says how to normalise bytes, got a Split of bytes; "
        "evaluator takes the part of a Dataset as split=, fit as dataset._replace(train=...).",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_says_what_is_wrong_with_batches(name):
    batches, batch_size, error, sentence = MISTAKES[name]
    with pytest.raises(error) as info:
        read_chunks("hessian", batches, batch_size)
    assert str(info.value) == sentence


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap], ids=lambda t: t.__name__)
def test_batches_from_the_host_are_refused_under_a_transformation(transform):
    chunks = read_chunks("hessian", (Loader(*CUTS),), None)
    sentence = (
        "hessian goes through batches on the host, got Loader under a transformation of JAX such "
        "as jit, vmap or grad: hand over arrays there."
    )
    with pytest.raises(TypeError) as info:
        transform(lambda power: mean_over(chunks, moments, power)["y"])(
            jnp.ones(2) if transform is jax.vmap else 1.0
        )
    assert str(info.value) == sentence


def test_an_iterable_that_yields_nothing_is_refused():
    with pytest.raises(
        ValueError, match=r"needs an iterable that yields batches .* got none from Loader"
    ):
        mean_over(read_chunks("hessian", (Loader(),), None), moments)


SHARDED = """
import sys
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
from jax.sharding import AxisType
from jaxopt_tut.datasets.inner import mean_over, read_chunks

x = np.random.default_rng(0).normal(size=(22, 3))
mean = lambda batch, scale: jnp.mean(jnp.tanh(batch @ scale) * batch[:, 0])
scale = jnp.array([1.0, -2.0, 0.5])
want = mean(x, scale)
class Loader:
    def __iter__(self):
        yield from (x[:8], x[8:])
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    for batches in ((x,), (x[:4], x[4:]), (Loader(),)):
        for size in (None, 2, 4, 8):
            chunks = read_chunks("hessian", batches, size, mesh)
            for part in chunks.parts:
                assert len(part.data.arrays.sharding.device_set) == 2
            np.testing.assert_allclose(mean_over(chunks, mean, scale), want, rtol=1e-13)
            if not chunks.needs_host:
                got = jax.jit(lambda chunks, scale: mean_over(chunks, mean, scale))(chunks, scale)
                np.testing.assert_allclose(got, want, rtol=1e-13)
for batches, size, sentence in [
    ((x,), 3, "hessian needs a batch_size divisible by the mesh's first axis (2), got "
              "batch_size=3."),
    ((x[:5],), None, "hessian needs batches divisible by the mesh's first axis (2), got 5 "
                     "examples."),
]:
    try:
        read_chunks("hessian", batches, size, mesh)
    except ValueError as error:
        assert str(error) == sentence, error
    else:
        raise AssertionError(sentence)
"""


def test_examples_may_be_split_over_two_devices():
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
