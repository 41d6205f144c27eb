"""Draw the figures of the README anew: python docs/images/draw.py."""

from pathlib import Path

import jax
import jax.numpy as jnp

from jaxopt_tut import autodiff, datasets, initializers, landscape, models, optimizers, taps
from jaxopt_tut.plotting import new_figure, plot_lines, plot_profile, plot_surface, save_figure

HERE = Path(__file__).parent
SIZE = (4.4, 3.6)


def save(draw, name):
    """Write what is drawn on new axes, for white pages and dark ones, as PNG alone."""
    figure = new_figure(*SIZE)
    draw(figure.subplots())
    save_figure(figure, HERE / name, dpi=100)
    for vector in HERE.glob(f"{name}*.svg"):
        vector.unlink()


def ravine(ax):
    """Draw three paths on the ravine."""
    surface = landscape.surfaces.ravine
    rules = {
        "SGD": optimizers.sgd(10.0),
        "momentum": optimizers.momentum(10.0),
        "Adam": optimizers.adam(1.0),
    }
    paths = {
        name: landscape.descend(surface.fun, surface.start, rule, num_steps=100)
        for name, rule in rules.items()
    }
    plot_surface(
        surface.fun, surface.domain, paths, title="SGD jumps across, Adam goes along", ax=ax
    )


def variance(ax):
    """Draw the variance layer by layer for three initializers."""
    images = datasets.load("mini").batch(512).images
    makers = {
        "std .01": initializers.normal(0.01),
        "std .1": initializers.normal(0.1),
        "Kaiming": initializers.kaiming_normal(),
    }
    profiles = {}
    for name, maker in makers.items():
        params = models.mlp.init(jax.random.key(0), (784, *(256,) * 7, 10), kernel_init=maker)
        _, tape = taps.record(models.mlp.apply, "*kernel")(params, images)
        profiles[name] = [value.var() for value in tape.values()]
    plot_profile(profiles, title="At .01 the signal dies", ax=ax)


def penalty(ax):
    """Draw a validation loss against weight decay, with its tangents."""
    keys = jax.random.split(jax.random.key(0), 5)
    scales = jnp.linspace(0.3, 1.5, 20)
    X = jax.random.normal(keys[0], (40, 20)) * scales
    X_val = jax.random.normal(keys[1], (200, 20)) * scales
    truth = jax.random.normal(keys[2], (20,))
    y = X @ truth + 3 * jax.random.normal(keys[3], (40,))
    y_val = X_val @ truth + 3 * jax.random.normal(keys[4], (200,))

    def validation(log_lam):
        w = jnp.linalg.solve(X.T @ X + 40 * jnp.exp(log_lam) * jnp.eye(20), X.T @ y)
        return jnp.mean((X_val @ w - y_val) ** 2)

    grid = jnp.linspace(-6.0, 2.5, 200)
    plot_lines(
        jnp.exp(grid),
        {"validation loss": jax.vmap(validation)(grid)},
        xlabel="weight decay",
        ylabel="validation loss",
        xscale="log",
        title="Slopes through an optimum",
        ax=ax,
    )
    for at in (-4.6, -2.0, 1.0):
        value, slope = jax.value_and_grad(validation)(at)
        near = jnp.linspace(at - 0.9, at + 0.9, 2)
        ax.plot(jnp.exp(near), value + slope * (near - at), color="#d55e00", linewidth=2)
        ax.plot(jnp.exp(at), value, "o", color="#d55e00")


def worked(x, y):
    """Compute the tutorial's worked example, the product once."""
    p = x * y
    return jnp.sin(p) + jnp.exp(p)


if __name__ == "__main__":
    for draw in (ravine, variance, penalty):
        save(draw, draw.__name__)
    graph = autodiff.trace(worked)(1.0, 2.0)
    values = graph.evaluate(1.0, 2.0)
    adjoints = graph.backpropagate(values, 1.0)
    (HERE / "graph.svg").write_text(autodiff.draw(graph, values, adjoints), encoding="utf-8")
