"""The coarse images are means over squares of pixels, normalised."""

import numpy as np
import pytest

from experiments._images import load_coarse
from jaxopt_tut import datasets


@pytest.mark.parametrize("block", [2, 4])
def test_images_are_normalised_means_over_squares(block):
    images, labels = load_coarse("mini", block)
    assert images.shape == (len(labels), (28 // block) ** 2)
    # Sums of a million single-precision numbers.
    np.testing.assert_allclose([images.mean(), images.std()], [0, 1], atol=1e-3)
    split = datasets.load("mini").train
    np.testing.assert_array_equal(labels, split.labels)
    corners = split.images[:, :block, :block].mean(axis=(1, 2))
    middles = split.images[:, 8 : 8 + block, 12 : 12 + block].mean(axis=(1, 2))
    place = 8 // block * (28 // block) + 12 // block
    # normalised by the same two numbers, a difference keeps its ratio to another one
    found = images[:, place] - images[:, 0]
    np.testing.assert_allclose(
        found / found.std(), (middles - corners) / (middles - corners).std(), atol=1e-4
    )
