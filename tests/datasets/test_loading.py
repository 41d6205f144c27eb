import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxopt_tut.datasets import load, load_fashion_mnist, load_fashion_mnist_mini


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)
    return True


def test_mini_is_the_bundled_set():
    assert same(load("mini"), load_fashion_mnist_mini())


def test_full_is_the_set_in_the_directory(full_directory):
    assert same(load("full", full_directory), load_fashion_mnist(full_directory))
    assert same(load("full", directory=str(full_directory)), load_fashion_mnist(full_directory))


def test_full_is_looked_for_in_the_usual_places(full_directory, monkeypatch):
    monkeypatch.setenv("JAXOPT_TUT_DATA", str(full_directory))
    assert same(load("full"), load_fashion_mnist())


def test_full_that_is_nowhere_is_the_error_of_its_loader():
    sentence = r"^load_fashion_mnist needs the four idx.gz files of Fashion-MNIST, not found in"
    with pytest.raises(FileNotFoundError, match=sentence):
        load("full", "/nowhere")


@pytest.mark.parametrize("name", ["Mini", "fashion_mnist", "", "tiny", None, True, 0, b"mini"])
def test_another_name_is_refused(name):
    sentence = f"load needs a name among 'mini', 'full', got name={name!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        load(name)


@pytest.mark.parametrize("directory", ["/data", Path("/data")])
def test_a_directory_for_the_bundled_set_is_refused(directory):
    sentence = (
        r"^load needs no directory for name='mini', which comes with the package, "
        r"got directory='/data'\.$"
    )
    with pytest.raises(ValueError, match=sentence):
        load("mini", directory)
