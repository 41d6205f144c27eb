"""With one mean and one deviation 9 of 10 batches have mean 0 and deviation 1 up to .03.

Question: Does normalising with one mean and one deviation give what the variance arguments assume?

Claim: with the mean and the standard deviation of the grey values, computed from the training
images, every batch of 1024 has mean 0 and standard deviation 1 up to .03, the pixels run from
-.8105 to 2.0224, and the classes are equally frequent. The tutorial prints the mean as .2861; it
is .286041, which rounds to .2860. The variance arguments of all initializers
assume E[x] = 0 and Var[x] = 1 over the pixels; single pixels are far from it (those of the border
are almost always black), which the arguments don't need.

Why: Every initializer of the tutorial sets the variance of weights for inputs of mean 0 and
variance 1. With other inputs each layer starts at the wrong scale before anything has been learned.

Source: UvA tutorial 4, preparation of the data.
Section: A1.
Command: python -m experiments data_statistics [--data full]
Expected: bundled images .28702 and .35399; full data .286041 and .353024.
Time: 3 s.
"""

import dataclasses
import sys
from typing import Literal, NamedTuple

import jax
import numpy as np

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.datasets import CLASS_NAMES, normalize, split_train_validation, verify_normalization
from jaxopt_tut.plotting import plot_distributions, plot_images

EXACT = (0.286041, 0.353024)  # of all 60 000 training images, to six digits
PUBLISHED_MEAN = 0.2861
BATCH = 1024
# Largest |mean| and |std - 1| of a batch. Batches scatter by .011, so one in 150 lies beyond.
TOLERANCE = 0.03


@dataclasses.dataclass(frozen=True)
class Config:
    """Which images."""

    data: Literal["mini", "full"] = "mini"
    seed: int = 0

    def quick(self) -> "Config":
        return self


class Result(NamedTuple):
    """Statistics of the training images, their batches and their classes."""

    data: str
    mean: float
    std: float
    standard_error: float
    """Of the mean, from the scatter of the images' own means."""
    batch_means: np.ndarray
    """After normalisation, one a batch of 1024."""
    batch_stds: np.ndarray
    smallest: float
    largest: float
    rarest: float
    """Share of the rarest class among the training images."""
    pixel_stds: np.ndarray
    """Standard deviation of each normalised pixel, shape (28, 28)."""
    examples: np.ndarray
    """The first image of each class."""
    values: dict[str, np.ndarray]
    """Normalised grey values of the first batch and of as many test images."""


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    train, _ = split_train_validation(
        jax.random.key(config.seed), dataset.train, len(dataset.train.labels) // 6
    )
    images, labels = np.asarray(train.images), np.asarray(dataset.train.labels)
    batches = np.split(images[: len(images) // BATCH * BATCH], len(images) // BATCH)
    checks = [verify_normalization(batch, dataset.mean, dataset.std) for batch in batches]
    normal = np.asarray(normalize(images, dataset.mean, dataset.std))
    image_means = normalize(dataset.train.images, dataset.mean, dataset.std).mean(axis=(1, 2))
    return Result(
        data=config.data,
        mean=dataset.mean,
        std=dataset.std,
        standard_error=float(image_means.std() / np.sqrt(len(image_means)) * dataset.std),
        batch_means=np.array([check.mean for check in checks]),
        batch_stds=np.array([check.std for check in checks]),
        smallest=float(normal.min()),
        largest=float(normal.max()),
        rarest=float(np.bincount(labels, minlength=10).min() / len(labels)),
        pixel_stds=normal.std(axis=0),
        examples=np.stack([dataset.train.images[np.argmax(labels == c)] for c in range(10)]),
        values={
            "a training batch": normal[:BATCH],
            "test images": np.asarray(
                normalize(dataset.test.images[:BATCH], dataset.mean, dataset.std)
            ),
        },
    )


def check(result: Result) -> list[Claim]:
    # Half of the last digit; the bundled subset is a sample of the same images.
    full = result.data == "full"
    slack = 5e-7 if full else 4 * result.standard_error
    wrong_digit = f"it prints {PUBLISHED_MEAN}" if full else ""
    off = PUBLISHED_MEAN - EXACT[0]
    far = (np.abs(result.batch_means) > TOLERANCE) | (np.abs(result.batch_stds - 1) > TOLERANCE)
    return [
        equal("mean of the grey values", result.mean, EXACT[0], slack, original=wrong_digit),
        equal("standard deviation of the grey values", result.std, EXACT[1], slack),
        at_most("a batch of 1024: |mean|", abs(result.batch_means[0]), TOLERANCE),
        at_most("a batch of 1024: |std - 1|", abs(result.batch_stds[0] - 1), TOLERANCE),
        at_most(
            "share of batches with |mean| or |std - 1| above .03", far.mean(), 0.1, headline=True
        ),
        # Half of the last printed digit, and what means and deviations that are off do to the ends.
        equal("smallest normalised value", result.smallest, -0.8105, 5e-5 + 5 * (slack + off)),
        equal("largest normalised value", result.largest, 2.0224, 5e-5 + 10 * (slack + off)),
        equal("share of the rarest class", result.rarest, 0.1, 1e-9),
        at_least("largest over smallest std of single pixels", _spread(result), 10.0),
    ]


def _spread(result: Result) -> float:
    return float(result.pixel_stds.max() / max(result.pixel_stds.min(), 1e-9))


def plot(result: Result):
    values = plot_distributions(
        {"normalised grey value": list(result.values.values())},
        titles=list(result.values),
        title="Variance near 1 in both (1024 images each)",
    )
    values.set_size_inches(6.4, 3.2)
    examples = plot_images(result.examples, CLASS_NAMES, title="The first image of each class")
    pixels = plot_images(
        result.pixel_stds[None],
        [f"{result.pixel_stds.min():.2f} to {result.pixel_stds.max():.2f}"],
        columns=1,
        title="Borders hardly vary: std by pixel",
    )
    pixels.set_size_inches(3.2, 3.4)
    return {"values": values, "examples": examples, "pixel_stds": pixels}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
