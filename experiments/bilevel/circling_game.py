"""Descent-ascent never comes near the saddle at which methods that look ahead arrive.

Question: Why does descent for one player and ascent for the other fail to find a saddle point?

Claim: a saddle point min over x, max over y of f(x, y) is the root of the game's field
F = (grad_x f, -grad_y f). On the bilinear game x.A y every singular value s of A turns a pair of
coordinates: gradient descent-ascent at rate r lengthens it by sqrt(1 + r^2 s^2) a step, and, where
the players alternate, keeps a^2 + b^2 - r s a b for ever. Two methods look ahead and arrive
linearly: extragradient at sqrt(1 - r^2 s^2 + r^4 s^4) a step, optimistic gradient descent at
sqrt((1 + sqrt(1 - 4 r^2 s^2)) / 2). Newton's step on F = 0 arrives at once, and in a few steps on a
game that is convex-concave but not quadratic. There the root of F is differentiable: the saddle's
derivative in a parameter is that of finite differences, and the value's is the partial derivative
of f alone (the envelope theorem). In float64.

Why: Adversarial training and min-max problems use such updates. Their failure is a rotation of the
field and no fault of the rate; methods that look a step ahead arrive.

Source: beyond the tutorials; Daskalakis et al. (2018), https://arxiv.org/abs/1711.00141, and Gidel
et al. (2019), https://arxiv.org/abs/1802.10551, sections 2 and 3; Korpelevich (1976) for
extragradient; Milgrom and Segal (2002), theorem 4, for the envelope.
Section: beyond B4.
Command: python -m experiments circling_game
Expected: at r s = .4 the distance grows by 1.077 a step, shrinks by .93 (extragradient) and .89
(optimistic), Newton 1 step; on the other game Newton 7 steps, the others 175 to 200.
Time: 9 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut.bilevel import Newton, root
from jaxopt_tut.optimizers import sgd
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below, look, tidy

TOGETHER, IN_TURNS = "descent-ascent", "descent-ascent in turns"
EXTRA, OPTIMISTIC, NEWTON = "extragradient", "optimistic gradient", "Newton"
FIRST_ORDER = (TOGETHER, IN_TURNS, EXTRA, OPTIMISTIC)
EPS = float(np.finfo(np.float64).eps)
SINGULAR_VALUES = np.array([1.0, 0.7])
TOLERANCE = 1e-10
"""A run on the convex-concave game has arrived when no component of the field is larger."""
SPACING = 1e-5
"""Of the central differences; their error is its square, times third derivatives of about 1."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_steps: int = 200
    """On the bilinear game."""
    num_long_steps: int = 400
    """On the convex-concave game."""
    rate: float = 0.4
    seed: int = 0

    def quick(self) -> "Config":
        return self


class Result(NamedTuple):
    """Of the bilinear game by method; of the convex-concave one."""

    rate: float
    pairs: dict[str, np.ndarray]
    """Coordinates of x and y along the singular vectors, shape (points, 2, singular values)."""
    newton_distance: float
    """After one step, over that of the start."""
    residuals: dict[str, np.ndarray]
    """Largest component of the convex-concave game's field, one a step."""
    saddle_error: float
    """Implicit derivative of the saddle against central differences, relative."""
    value_error: float
    """Derivative of the value through `root`, against the partial derivative, relative."""
    envelope_error: float
    """That partial derivative against central differences of the value, relative."""


def bilinear(x, y, matrix):
    return x @ matrix @ y


def curved(x, y, z):
    """Return a game that is strictly convex in x and strictly concave in y."""
    own = lambda w: jnp.sum(w**4) / 4 + jnp.sum(w**2) / 4
    return own(x) + x @ z["matrix"] @ y - own(y) + z["pull"] @ x - z["push"] @ y


def field_of(game):
    """Return what is zero at a saddle, and downhill for both players: F((x, y), z)."""

    def field(players, z):
        for_x, for_y = jax.grad(game, (0, 1))(*players, z)
        return for_x, -for_y

    return field


def play(game, start, z, rate, num_steps):
    """Return the points of every first-order method, the start first."""
    field = lambda players: field_of(game)(players, z)

    def follow(update, memory):
        def step(carry, _):
            after = update(*carry)
            return after, after[0]

        _, points = jax.lax.scan(step, (start, memory), length=num_steps)
        return jax.tree.map(lambda a, path: jnp.concatenate([a[None], path]), start, points)

    def by(optimizer):
        def update(players, state):
            # the field, not the gradient: the second player's sign makes its descent an ascent
            updates, state = optimizer.update(field(players), state, players)
            return optax.apply_updates(players, updates), state

        return follow(update, optimizer.init(start))

    move = lambda players, slope: jax.tree.map(lambda a, g: a - rate * g, players, slope)

    def in_turns(players, memory):
        x, _ = move(players, field(players))
        _, y = move((x, players[1]), field((x, players[1])))
        return (x, y), memory

    def ahead(players, memory):
        return move(players, field(move(players, field(players)))), memory

    return {
        TOGETHER: by(sgd(rate)),
        IN_TURNS: follow(in_turns, ()),
        EXTRA: follow(ahead, ()),
        OPTIMISTIC: by(optax.optimistic_gradient_descent(rate)),
    }


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(config.seed), 6)
        left, right = (jax.random.orthogonal(key, 2) for key in keys[:2])
        matrix = left @ jnp.diag(SINGULAR_VALUES) @ right.T
        start = (left.sum(axis=1), right.sum(axis=1))  # 1 along every singular vector
        points = jax.jit(play, static_argnums=(0, 4))(
            bilinear, start, matrix, config.rate, config.num_steps
        )
        pairs = {
            name: np.stack([points[name][0] @ left, points[name][1] @ right], axis=1)
            for name in FIRST_ORDER
        }
        solved = root(field_of(bilinear), start, matrix, solver=Newton(), steps=1)
        length = lambda tree: float(jnp.linalg.norm(jnp.concatenate(tree)))
        game = {
            "matrix": jax.random.normal(keys[2], (3, 3)),
            "pull": jax.random.normal(keys[3], (3,)),
            "push": jax.random.normal(keys[4], (3,)),
        }
        return Result(
            rate=config.rate,
            pairs=pairs,
            newton_distance=length(solved.y) / length(start),
            residuals=solve_curved(game, config),
            **differentiate(game, keys[5]),
        )


def solve_curved(game, config: Config) -> dict[str, np.ndarray]:
    """Return the size of the field along the steps of every method."""
    start = (jnp.ones(3), -jnp.ones(3))
    field = field_of(curved)
    size = lambda players: jnp.max(jnp.abs(jnp.concatenate(field(players, game))))
    rate = config.rate / 2  # the game is steeper: its field has a slope of up to 4 at the start
    points = jax.jit(play, static_argnums=(0, 4))(curved, start, game, rate, config.num_long_steps)
    residuals = {name: np.asarray(jax.vmap(size)(points[name])) for name in FIRST_ORDER}
    newton = [start]
    for _ in range(9):
        newton.append(root(field, newton[-1], game, solver=Newton(), steps=1).y)
    return residuals | {NEWTON: np.array([size(players) for players in newton])}


def differentiate(game, key) -> dict[str, float]:
    """Differentiate the saddle and its value along a random change of the game."""
    leaves, tree = jax.tree.flatten(game)
    keys = jax.random.split(key, len(leaves))
    change = tree.unflatten(
        [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    )
    at = lambda t: jax.tree.map(lambda a, b: a + t * b, game, change)
    field, start = field_of(curved), (jnp.ones(3), -jnp.ones(3))
    saddle = lambda t: root(field, start, at(t), solver=Newton(), steps=20).y
    value = lambda players, t: curved(players[0], players[1], at(t))

    @jax.jit
    def value_and_slope(t):
        return jax.value_and_grad(lambda t: value(saddle(t), t))(t)

    @jax.jit
    def saddle_and_slope(t):
        return jax.jvp(lambda t: jnp.concatenate(saddle(t)), (t,), (jnp.ones(()),))

    central = lambda f: (f(SPACING)[0] - f(-SPACING)[0]) / (2 * SPACING)
    now = saddle(0.0)
    partial = jax.grad(value, 1)(now, 0.0)
    relative = lambda a, b: float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
    return {
        "saddle_error": relative(saddle_and_slope(0.0)[1], central(saddle_and_slope)),
        "value_error": relative(value_and_slope(0.0)[1], partial),
        "envelope_error": relative(partial, central(value_and_slope)),
    }


def growth(result: Result, name: str) -> np.ndarray:
    """Return the factor a step of each pair's length, over the second half of the run."""
    lengths = np.linalg.norm(result.pairs[name], axis=1)
    half = len(lengths) // 2
    return (lengths[-1] / lengths[half]) ** (1 / (len(lengths) - 1 - half))


def laws(rate: float) -> dict[str, np.ndarray]:
    """Return the factors of theory, by method and singular value."""
    square = (rate * SINGULAR_VALUES) ** 2
    return {
        TOGETHER: np.sqrt(1 + square),
        EXTRA: np.sqrt(1 - square + square**2),
        OPTIMISTIC: np.sqrt((1 + np.sqrt(1 - 4 * square)) / 2),
    }


def num_steps(residuals: np.ndarray) -> float:
    """Return after how many steps the field is small; infinity for never."""
    arrived = residuals <= TOLERANCE
    return float(arrived.argmax()) if arrived.any() else np.inf


def check(result: Result) -> list[Claim]:
    law = laws(result.rate)
    off = {name: np.abs(growth(result, name) / law[name] - 1).max() for name in law}
    a, b = result.pairs[IN_TURNS].swapaxes(0, 1)
    kept = a**2 + b**2 - result.rate * SINGULAR_VALUES * a * b
    steps = {name: num_steps(residuals) for name, residuals in result.residuals.items()}
    # A step rounds some ten times, by eps of the distance; the factor a step is a root over half
    # of the steps, over which those errors add up to one step's. The pairs share the coordinates
    # of x and y, so that the shorter one is known to eps of the longer.
    last = len(a) - 1
    rounding = 20 * EPS
    limits = {
        name: rounding * (1 + (factors.max() / factors.min()) ** last / (last / 2))
        for name, factors in law.items()
    }
    nearest = min(_distances(result, name).min() for name in (TOGETHER, IN_TURNS))
    farthest = max(_distances(result, name)[-1] for name in (EXTRA, OPTIMISTIC))
    return [
        # what the claims below allow for the two
        at_least(
            "least distance of descent-ascent, in turns or not, over the last of looking ahead",
            nearest / farthest,
            np.sqrt((1 - result.rate / 2) / (1 + result.rate / 2)) / 1e-2,
            headline=True,
        ),
        at_most("descent-ascent: growth a step against its law", off[TOGETHER], limits[TOGETHER]),
        at_least("descent-ascent: distance at the end, over the start", _end(result, TOGETHER), 10),
        at_most(
            "in turns: change of what is kept, relative, a step",
            np.abs(kept / kept[0] - 1).max() / (len(kept) - 1),
            rounding,
        ),
        # a^2 + b^2 - r s a b lies between 1 - r s / 2 and 1 + r s / 2 times a^2 + b^2
        at_least(
            "in turns: least distance, over the start",
            np.linalg.norm(result.pairs[IN_TURNS], axis=1).min() / np.sqrt(2),
            np.sqrt((1 - result.rate / 2) / (1 + result.rate / 2)),
        ),
        at_most("extragradient: shrinking a step against its law", off[EXTRA], limits[EXTRA]),
        at_most(
            "optimistic: shrinking a step against its law", off[OPTIMISTIC], limits[OPTIMISTIC]
        ),
        at_most("extragradient: distance at the end, over the start", _end(result, EXTRA), 1e-2),
        at_most("optimistic: the same", _end(result, OPTIMISTIC), 1e-2),
        # one linear system of condition number 1 / .7, of four unknowns
        at_most(
            "Newton: distance after one step, over the start", result.newton_distance, 100 * EPS
        ),
        # Four steps to the first right digit; the next double it: .1, .01, 1e-4, 1e-8, done.
        at_most("convex-concave game: Newton's steps", steps[NEWTON], 8),
        at_least(
            "the same: steps of the best other method, over Newton's",
            min(steps[name] for name in FIRST_ORDER) / steps[NEWTON],
            5,
        ),
        # Central differences err by h^2 and by eps / h, both 1e-10 or less, times the change of
        # the game, of length 4, to the third power.
        at_most(
            "derivative of the saddle against differences, relative", result.saddle_error, 1e-8
        ),
        # The saddle is known to eps times the condition number of the field, some ten.
        at_most(
            "derivative of the value through the saddle, against f's own",
            result.value_error,
            1e3 * EPS,
        ),
        at_most("f's own against differences of the value, relative", result.envelope_error, 1e-8),
    ]


def _distances(result: Result, name: str) -> np.ndarray:
    """Return the distance of all four coordinates from the saddle, over that of the start."""
    distances = np.linalg.norm(result.pairs[name], axis=(1, 2))
    return distances / distances[0]


def _end(result: Result, name: str) -> float:
    return float(_distances(result, name)[-1])


def plot(result: Result):
    figure = new_figure(11, 4.8)
    plane, distances = figure.subplots(1, 2)
    for i, name in enumerate(FIRST_ORDER):
        plane.plot(*result.pairs[name][:26, :, 0].T, label=name, linewidth=1.2, **look(i))
    start = result.pairs[TOGETHER][0, :, 0]
    newton = {**look(len(FIRST_ORDER)), "linestyle": "-"}
    plane.plot(*np.array([start, np.zeros(2)]).T, label=NEWTON, linewidth=1.2, **newton)
    plane.plot(0, 0, "k*", markersize=13, label="saddle", zorder=3)
    plane.set_xlim(-2.5, 2.5)
    plane.set_ylim(-2.5, 2.5)
    plane.set_aspect("equal")
    tidy(
        plane,
        xlabel="x along its first singular vector",
        ylabel="y along its own",
        title="x.A y from (1, 1), 25 steps: away from the saddle, around it, or in",
    )
    shown = np.arange(101)
    curves = {name: np.linalg.norm(result.pairs[name][:101, :, 0], axis=1) for name in FIRST_ORDER}
    plot_lines(
        shown,
        curves,
        xlabel="step",
        ylabel="distance from the saddle",
        yscale="log",
        title="Each changes the distance at the rate of theory",
        ax=distances,
    )
    for name, factors in laws(result.rate).items():
        marks = shown[10::10]
        law = curves[name][-1] * factors[0] ** (marks - marks[-1])
        distances.plot(marks, law, "ko", markersize=6, markerfacecolor="none")
    distances.lines[-1].set_label("law of theory")
    for ax in (plane, distances):
        legend_below(ax, columns=3)
    return {"paths": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
