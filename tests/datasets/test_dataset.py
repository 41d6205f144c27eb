import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.datasets import Dataset, Split, split_train_validation
from jaxopt_tut.datasets.dataset import assemble

KEY = jax.random.key(0)
NUM = 7
SPLIT = Split(np.arange(NUM * 4, dtype=np.uint8).reshape(NUM, 2, 2), np.arange(NUM, dtype=np.int32))


@pytest.mark.parametrize("num_validation", [1, 3, NUM - 1])
def test_parts_are_disjoint_and_cover_everything(num_validation):
    train, validation = split_train_validation(KEY, SPLIT, num_validation)
    assert len(validation.labels) == num_validation
    assert sorted(np.concatenate([train.labels, validation.labels])) == list(range(NUM))
    for part in (train, validation):
        assert (part.images.dtype, part.labels.dtype) == (jnp.uint8, jnp.int32)
        np.testing.assert_array_equal(part.images, SPLIT.images[np.asarray(part.labels)])


def test_same_key_same_bits_and_another_key_another_split():
    first, again, other = (
        np.concatenate([part.labels for part in split_train_validation(key, SPLIT, 3)])
        for key in (KEY, jax.random.key(0), jax.random.key(1))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_image_is_equally_often_in_the_validation_part():
    keys = jax.random.split(jax.random.key(2), 4000)
    _, validation = jax.vmap(lambda key: split_train_validation(key, SPLIT, 3))(keys)
    frequency = np.bincount(np.asarray(validation.labels).ravel(), minlength=NUM) / len(keys)
    standard_error = np.sqrt(3 / 7 * 4 / 7 / len(keys))
    np.testing.assert_allclose(frequency, 3 / 7, rtol=0, atol=4 * standard_error)


def test_jit_gives_the_eager_split():
    compiled = jax.jit(split_train_validation, static_argnums=2)
    jax.tree.map(
        np.testing.assert_array_equal,
        compiled(KEY, SPLIT, 3),
        split_train_validation(KEY, SPLIT, 3),
    )


BAD_INPUT = {
    "nothing to validate": (
        (KEY, SPLIT, 0),
        ValueError,
        r"needs 0 < num_validation < 7, got num_validation=0\.",
    ),
    "nothing to train": ((KEY, SPLIT, 7), ValueError, r"needs 0 < num_validation < 7, got .*=7\."),
    "negative": ((KEY, SPLIT, -1), ValueError, r"needs 0 < num_validation < 7, got .*=-1\."),
    "fraction": ((KEY, SPLIT, 0.2), TypeError, r"needs an integer num_validation, got 0\.2\."),
    "no key": ((0, SPLIT, 3), TypeError, r"needs one typed key of jax\.random\.key, got 0\."),
    "raw key": (
        (np.zeros(2, np.uint32), SPLIT, 3),
        TypeError,
        r"needs one typed key of jax\.random\.key, got \[0 0\]\.",
    ),
    "two keys": (
        (jax.random.split(KEY), SPLIT, 3),
        TypeError,
        r"needs one typed key of jax\.random\.key, got Array\(\(2,\), dtype=key<fry>\)",
    ),
    "fewer labels": (
        (KEY, Split(SPLIT.images, SPLIT.labels[:5]), 3),
        ValueError,
        r"needs as many labels as images, got 5 and 7\.",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "sentence"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_split_refuses_bad_input(arguments, error, sentence):
    with pytest.raises(error, match=f"^split_train_validation {sentence}"):
        split_train_validation(*arguments)


def test_a_first_batch_unlike_the_rest_is_refused():
    grey = np.repeat(np.array([100, 150], np.uint8), 1024)
    split = Split(np.broadcast_to(grey[:, None, None], (2048, 2, 2)), np.zeros(2048, np.int32))
    sentence = (
        r"^loader needs a first batch with .* once normalised, got mean=-1\.0000 and std=0\.00"
    )
    with pytest.raises(ValueError, match=sentence):
        assemble(split, split, caller="loader")


def test_a_batch_is_the_first_images_normalised():
    data = Dataset(SPLIT, Split(SPLIT.images[::-1], SPLIT.labels[::-1]), mean=0.02, std=0.5)
    images, labels = data.batch(2, "test")
    np.testing.assert_allclose(images, (SPLIT.images[:-3:-1] / 255 - 0.02) / 0.5, rtol=1e-6)
    assert labels.tolist() == [6, 5]
    for arguments in ((0,), (8,)):
        with pytest.raises(ValueError, match=r"^batch needs 1 <= size <= 7, got size="):
            data.batch(*arguments)
    for split in ("val", 2, None):
        with pytest.raises(
            ValueError, match=f"^batch needs split 'train' or .* got split={split!r}"
        ):
            data.batch(2, split)
    for size in (2.5, 2.0, "3", True, None):
        with pytest.raises(TypeError, match=r"^batch needs an integer size, got size="):
            data.batch(size)
    assert data.batch(np.int64(2)).labels.shape == data.batch(jnp.array(2)).labels.shape == (2,)
