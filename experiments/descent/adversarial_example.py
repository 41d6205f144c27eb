"""Changes of at most .06 a pixel flip at least half of a classifier's right predictions.

Question: How small a change of an image changes what a classifier says of it?

Claim: for a classifier trained on the bundled images, projected gradient ascent on the loss finds
for most correctly classified test images a change within a small ball that flips the prediction,
where random changes as large do nothing. The constraint is active: the change ends on the border of
the ball, of the LInf ball (intersected with the box of grey values) or the L2 ball, and never
leaves it. Steepest ascent under the ball's own norm is used in both.

Why: The attack is projected gradient descent on the input, with a constraint that decides the
answer. Random noise of the same size does nothing, so that robustness against noise says little
about it.

Source: Technion tutorial 5, projected gradient descent; Madry et al. (2018), section 2.1.
Section: B1.
Command: python -m experiments adversarial_example [--data full]
Expected: three quarters of the right predictions flip, at random 3 % (LInf), 0 (L2).
Time: 10 s.
"""

import dataclasses
import sys
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.datasets import CLASS_NAMES
from jaxopt_tut.models import mlp
from jaxopt_tut.optimizers import adam, norms, project, projections, steepest_descent
from jaxopt_tut.plotting import plot_images
from jaxopt_tut.training import fit

RADII = {"LInf": 0.06, "L2": 1.0}
"""Of the balls, in units of the range from black to white."""
NORMS = {"LInf": norms.LInf(), "L2": norms.L2()}
SIZES = (784, 64, 10)


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    num_images: int = 200
    num_steps: int = 40
    num_epochs: int = 5

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_images=64)


class Result(NamedTuple):
    """Arrays over the images that were classified correctly; dictionaries by norm."""

    accuracy: float
    """Of the classifier on the test images, before any change."""
    flipped: dict[str, np.ndarray]
    flipped_at_random: dict[str, np.ndarray]
    sizes: dict[str, np.ndarray]
    """Norms of the changes over the radius."""
    out_of_range: dict[str, float]
    """By how much a changed image leaves the range from black to white, with `LInf`."""
    examples: np.ndarray
    """Image, change and sum of the first that flipped, shape (3, height, width)."""
    labels: tuple[str, str]
    """Its class before and after."""


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    init_key, fit_key, noise_key = jax.random.split(jax.random.key(0), 3)

    def loss_fn(params, batch):
        logits = mlp.apply(params, batch.images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    fitted = fit(
        loss_fn,
        mlp.init(init_key, SIZES),
        adam(1e-3),
        dataset,
        batch_size=128,
        num_epochs=config.num_epochs,
        key=fit_key,
        progress=False,
    )
    params = fitted.params
    images = jnp.asarray(dataset.test.images[: config.num_images], jnp.float32) / 255
    labels = jnp.asarray(dataset.test.labels[: config.num_images])

    @jax.jit
    def predict(images):
        return mlp.apply(params, (images - dataset.mean) / dataset.std)

    is_right = np.asarray(jnp.argmax(predict(images), axis=-1) == labels)
    images, labels = images[is_right], labels[is_right]

    def loss_of(change, image, label):
        logits = predict((image + change)[None])[0]
        return -optax.softmax_cross_entropy_with_integer_labels(logits, label)  # to be minimised

    @partial(jax.jit, static_argnames="name")
    def attack(images, labels, name):
        return jax.vmap(lambda i, l: ascend(partial(loss_of, image=i, label=l), i, name, config))(
            images, labels
        )

    flipped, at_random, sizes, changes = {}, {}, {}, {}
    for name, norm in NORMS.items():
        change = attack(images, labels, name)
        size = jax.vmap(norm.norm)
        noise = jax.random.normal(noise_key, images.shape)
        noise = RADII[name] * jax.vmap(norm.steepest)(noise)  # of norm 1, in random directions
        is_flipped = lambda change: jnp.argmax(predict(images + change), axis=-1) != labels
        flipped[name], at_random[name] = (
            np.asarray(is_flipped(change)),
            np.asarray(is_flipped(noise)),
        )
        sizes[name], changes[name] = np.asarray(size(change)) / RADII[name], change
    changed = images + changes["LInf"]
    first = int(np.argmax(flipped["LInf"]))
    before, after = int(labels[first]), int(jnp.argmax(predict(changed)[first]))
    return Result(
        float(is_right.mean()),
        flipped,
        at_random,
        sizes,
        {"LInf": float(jnp.maximum(changed.max() - 1, -changed.min()))},
        np.stack([images[first], changes["LInf"][first], changed[first]]),
        (CLASS_NAMES[before], CLASS_NAMES[after]),
    )


def ascend(loss, image, name, config):
    """Return the change of an image that makes the loss large, within the ball."""
    radius = RADII[name]
    if name == "LInf":
        # the ball and the range of grey values are both boxes, and so is what is in both
        within = projections.box(jnp.maximum(-radius, -image), jnp.minimum(radius, 1 - image))
    else:
        within = projections.ball(radius, NORMS[name])
    # steps of constant length that could cross the ball twice
    step = steepest_descent(
        4 * radius / config.num_steps, norm=NORMS[name], scale_by_dual_norm=False
    )
    optimizer = optax.chain(step, project(within))

    def body(carry, _):
        change, state = carry
        updates, state = optimizer.update(jax.grad(loss)(change), state, change)
        return (optax.apply_updates(change, updates), state), None

    change = jnp.zeros_like(image)
    (change, _), _ = jax.lax.scan(body, (change, optimizer.init(change)), length=config.num_steps)
    return change


def check(result: Result) -> list[Claim]:
    claims = [at_least("accuracy before", result.accuracy, 0.7)]
    for name in NORMS:
        flipped, at_random = result.flipped[name], result.flipped_at_random[name]
        size = result.sizes[name]
        border = float(np.mean(size[flipped] > 0.999)) if flipped.any() else 0.0
        claims += [
            at_least(
                f"{name}: share of right predictions that flip",
                flipped.mean(),
                0.5,
                headline=name == "LInf",
            ),
            at_most(f"{name}: share that a random change as large flips", at_random.mean(), 0.1),
            # rounding of image plus change, and of the scaling onto the ball
            at_most(f"{name}: largest norm over radius", size.max(), 1 + 1e-5),
            at_least(f"{name}: share of flipped ones on the border", border, 0.99),
        ]
    leaves = result.out_of_range["LInf"]
    return [*claims, at_most("LInf: by how much a pixel leaves the range", leaves, 1e-6)]


def plot(result: Result):
    before, after = result.labels
    titles = [before, f"change, at most {RADII['LInf']:g}", after]
    title = "The prediction flips"
    figure = plot_images(result.examples, titles, columns=3, title=title)
    figure.set_size_inches(6.0, 2.8)
    return {"adversarial_example": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
