import gzip
import os
import shutil

import numpy as np
import pytest

from jaxopt_tut.datasets import (
    CLASS_NAMES,
    fashion_mnist,
    find_fashion_mnist,
    load_fashion_mnist,
    load_fashion_mnist_mini,
)
from jaxopt_tut.datasets.fashion_mnist import FILE_NAMES, cache_directory

REMEDIES = r"apt-get install dataset-fashion-mnist(.|\n)*fetch_fashion_mnist\(\)(.|\n)*make data"


def touch_files(directory, names=FILE_NAMES):
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).touch()
    return directory


@pytest.fixture
def no_places(tmp_path, monkeypatch):
    """Point every usual place into an empty directory, and return it."""
    monkeypatch.delenv("JAXOPT_TUT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIRECTORY", tmp_path / "system")
    return tmp_path


def test_a_full_set_is_read_as_it_was_written(full_directory):
    mini, full = load_fashion_mnist_mini(), load_fashion_mnist(full_directory)
    for split, part in ((full.train, mini.train), (full.test, mini.test)):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(split.images, np.tile(part.images, (10, 1, 1)))
        np.testing.assert_array_equal(split.labels, np.tile(part.labels, 10))
    assert full.mean == pytest.approx(mini.mean, rel=1e-15)
    assert full.std == pytest.approx(mini.std, rel=1e-15)


def test_the_set_of_this_machine_is_the_real_one_or_the_error_says_how_to_get_it():
    try:
        dataset = load_fashion_mnist()
    except FileNotFoundError:
        with pytest.raises(FileNotFoundError, match=REMEDIES):
            load_fashion_mnist()
    else:
        assert round(dataset.mean, 6) == 0.286041
        assert round(dataset.std, 6) == 0.353024
        assert np.bincount(dataset.train.labels).tolist() == [6000] * len(CLASS_NAMES)


def test_the_first_complete_place_is_taken(no_places, monkeypatch):
    variable = no_places / "variable"
    monkeypatch.setenv("JAXOPT_TUT_DATA", str(variable))
    cache = touch_files(cache_directory())
    assert find_fashion_mnist() == cache
    system = touch_files(no_places / "system")
    assert find_fashion_mnist() == system
    touch_files(variable, FILE_NAMES[:3])
    assert find_fashion_mnist() == system
    (variable / FILE_NAMES[3]).touch()
    assert find_fashion_mnist() == variable
    given = touch_files(no_places / "given")
    assert find_fashion_mnist(given) == find_fashion_mnist(os.fspath(given)) == given


def test_the_error_names_every_place_and_both_remedies(no_places, monkeypatch):
    touch_files(no_places / "system", FILE_NAMES[:2])
    with pytest.raises(FileNotFoundError) as caught:
        load_fashion_mnist()
    assert str(caught.value).splitlines()[:4] == [
        "load_fashion_mnist needs the four idx.gz files of Fashion-MNIST, not found in",
        "  $JAXOPT_TUT_DATA: not set",
        f"  the system: {no_places}/system lacks {FILE_NAMES[2]}, {FILE_NAMES[3]}",
        f"  the cache: {no_places}/cache/jaxopt_tut/fashion-mnist is not a directory",
    ]
    with pytest.raises(FileNotFoundError, match=REMEDIES):
        load_fashion_mnist()
    monkeypatch.setenv("JAXOPT_TUT_DATA", "/slip")
    with pytest.raises(FileNotFoundError, match=r"\$JAXOPT_TUT_DATA: /slip is not a directory"):
        load_fashion_mnist()


@pytest.mark.parametrize("missing", FILE_NAMES)
def test_a_given_directory_is_the_only_one_looked_at(no_places, missing):
    touch_files(no_places / "system")
    given = touch_files(no_places / "given", [name for name in FILE_NAMES if name != missing])
    sentence = (
        rf"the argument: {given} lacks {missing}\n(.|\n)*\$JAXOPT_TUT_DATA, {no_places}/system, "
    )
    with pytest.raises(FileNotFoundError, match=sentence + f"(.|\n)*{REMEDIES}"):
        load_fashion_mnist(given)
    with pytest.raises(FileNotFoundError, match="the argument: /nowhere is not a directory"):
        load_fashion_mnist("/nowhere")


@pytest.mark.parametrize("value", ["", "relative/cache"], ids=["empty", "relative"])
def test_the_cache_is_in_the_home_where_xdg_names_no_absolute_path(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_directory() == tmp_path / ".cache" / "jaxopt_tut" / "fashion-mnist"


BAD_FILES = {
    "label above 9": (
        FILE_NAMES[3],
        np.full(10_000, 10, np.uint8),
        r"^load_fashion_mnist needs labels from 0 to 9, got 10 in '.*t10k-labels-.*\.gz'\.$",
    ),
    "too few labels": (
        FILE_NAMES[1],
        np.zeros(10_000, np.uint8),
        r"^read_idx needs shape \(60000,\) in '.*train-labels-idx1-ubyte\.gz', got \(10000,\)\.$",
    ),
    "other images": (
        FILE_NAMES[2],
        np.zeros((10_000, 32, 32), np.uint8),
        r"^read_idx needs shape \(10000, 28, 28\) in '.*', got \(10000, 32, 32\)\.$",
    ),
    "blank images": (
        FILE_NAMES[0],
        np.zeros((60_000, 28, 28), np.uint8),
        r"^pixel_statistics needs images with more than one grey value, got 47040000 equal",
    ),
}


@pytest.mark.parametrize(("name", "array", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_refuses_a_file_of_another_content(
    tmp_path, full_directory, pack_idx, name, array, sentence
):
    directory = shutil.copytree(full_directory, tmp_path / "copy")
    (directory / name).write_bytes(gzip.compress(pack_idx(array), compresslevel=1))
    with pytest.raises(ValueError, match=sentence):
        load_fashion_mnist(directory)
