"""One step from MAML's start errs less than half as much as one from joint training's.

Question: Can a network be started so that one gradient step is enough for a new task?

Claim: tasks are sinusoids of random amplitude and phase, each seen at ten points. MAML learns the
start from which one gradient step on these ten does best on ten others, and differentiates through
the step; first-order MAML takes the step for a constant; joint training fits all tasks at once,
whose mean is all that one function can learn. On new tasks, after one step, MAML's error is less
than half that of joint training, and also below that of first-order MAML after as many outer
steps, which learns the same more slowly. Before the step no start is of use: MAML pays for its
start's adaptability and is no better than joint training there. Five seeds, tasks and networks new
for each, and the same for the three methods.

Why: Sinusoids are a clear case in which the derivative through an optimizer's step matters: fitting
all tasks at once finds their mean, from which one step does not lead far.

Source: beyond the tutorials; Finn et al. (2017), section 5.1, on a smaller scale; they report the
first-order form as nearly as good, on images.
Section: beyond B4.
Command: python -m experiments maml_sinusoids [--data full]
Expected: squared errors after one step: MAML 1.2, first order 2.2, joint 3.7.
Time: 12 s.
"""

import dataclasses
import sys
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut.bilevel.recipes import learn, maml
from jaxopt_tut.optimizers import adam, sgd
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import COLORS, look, tidy

MAML, FIRST_ORDER, JOINT = "MAML", "first-order MAML", "joint training"
SIZES = (1, 40, 40, 1)
POINTS = 10
INNER_RATE = 0.02
ADAPT_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    num_seeds: int = 5
    num_tasks: int = 80
    num_new_tasks: int = 200
    learning_rate: float = 3e-3
    """Of the outer steps."""

    @property
    def num_steps(self) -> int:
        """Outer steps."""
        return 1000 if self.data == "full" else 200

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=3, num_tasks=50, num_new_tasks=100)


class Result(NamedTuple):
    """By method."""

    errors: dict[str, np.ndarray]
    """Mean squared errors on new tasks, by seed and number of steps taken on the ten points."""
    losses: dict[str, np.ndarray]
    """What each method descends, by seed and outer step."""
    example: dict[str, np.ndarray]
    """Of the first seed's first new task."""


class Tasks(NamedTuple):
    """Pairs of inputs and outputs, by task and point."""

    support: tuple[np.ndarray, np.ndarray]
    """What a task is learned from."""
    query: tuple[np.ndarray, np.ndarray]
    """What the learner is judged by."""


def draw_tasks(rng: np.random.Generator, num_tasks: int, num_query: int) -> Tasks:
    """Draw sinusoids of amplitude .1 to 5 and any phase, at points from -5 to 5."""
    amplitude = rng.uniform(0.1, 5, (num_tasks, 1, 1))
    phase = rng.uniform(0, np.pi, (num_tasks, 1, 1))
    x = rng.uniform(-5, 5, (num_tasks, POINTS + num_query, 1))
    x[:, POINTS:] = np.sort(x[:, POINTS:], axis=1)
    y = amplitude * np.sin(x - phase)
    parts = [tuple(np.split(a.astype(np.float32), [POINTS], axis=1)) for a in (x, y)]
    return Tasks(*zip(*parts, strict=True))


def init(rng: np.random.Generator) -> Any:
    draw = lambda rows, columns: rng.normal(0, np.sqrt(2 / rows), (rows, columns))
    return [
        (draw(*pair).astype(np.float32), np.zeros(pair[1], np.float32)) for pair in pairwise(SIZES)
    ]


def predict(params, x):
    *hidden, (kernel, bias) = params
    for weights, shifts in hidden:
        x = jnp.tanh(x @ weights + shifts)
    return x @ kernel + bias


def loss_fn(params, batch):
    x, y = batch
    return jnp.mean((predict(params, x) - y) ** 2)


@partial(jax.jit, static_argnames=("method", "num_steps"))
@partial(jax.vmap, in_axes=(0, 0, None, None, None))
def train(params, tasks: Tasks, learning_rate, method, num_steps):
    """Learn a start."""
    options = {"optimizer": adam(learning_rate), "num_steps": num_steps}
    if method == JOINT:
        every = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), *tasks)
        return learn(jax.value_and_grad(lambda p: loss_fn(p, every)), params, **options)
    options |= {"solver": sgd(INNER_RATE), "inner_steps": 1, "first_order": method == FIRST_ORDER}
    return maml(loss_fn, params, *tasks, **options)


@jax.jit
@partial(jax.vmap, in_axes=(0, None))  # methods share the tasks
@jax.vmap
def adapt(start, tasks: Tasks):
    """Return errors by number of steps, and the first task's predictions before and after one."""

    def one_task(support, query):
        def step(params, _):
            grads = jax.grad(loss_fn)(params, support)
            seen = loss_fn(params, query), predict(params, query[0])[:, 0]
            return jax.tree.map(lambda p, g: p - INNER_RATE * g, params, grads), seen

        return jax.lax.scan(step, start, length=ADAPT_STEPS + 1)[1]

    errors, predictions = jax.vmap(one_task)(*tasks)
    return errors.mean(axis=0), predictions[0, :2]


def run(config: Config) -> Result:
    rngs = [np.random.default_rng(seed) for seed in range(config.num_seeds)]
    stack = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    tasks = stack([draw_tasks(rng, config.num_tasks, POINTS) for rng in rngs])
    new = stack([draw_tasks(rng, config.num_new_tasks, 50) for rng in rngs])
    params = stack([init(rng) for rng in rngs])
    options = config.learning_rate, config.num_steps
    methods = (MAML, FIRST_ORDER, JOINT)
    found = {m: train(params, tasks, options[0], m, options[1]) for m in methods}
    errors, predictions = map(np.asarray, adapt(stack([f.value for f in found.values()]), new))
    first = lambda part: {"x": part[0][0, 0, :, 0], "y": part[1][0, 0, :, 0]}
    example = {
        f"{name} {key}": a for name in new._fields for key, a in first(getattr(new, name)).items()
    }
    example |= {name: predictions[i, 0] for i, name in enumerate(methods)}
    losses = {name: np.asarray(f.losses) for name, f in found.items()}
    return Result(dict(zip(methods, errors, strict=True)), losses, example)


def check(result: Result) -> list[Claim]:
    errors = result.errors
    after = {name: rows[:, 1] for name, rows in errors.items()}
    # Seeds share tasks and networks: differences of pairs, two standard errors from 0.
    in_errors = lambda gap: gap.mean() / (gap.std(ddof=1) / np.sqrt(len(gap)))
    return [
        at_most(
            "one step: MAML's error over that of joint training",
            after[MAML].mean() / after[JOINT].mean(),
            0.5,
            headline=True,
        ),
        at_least(
            "one step: error of first-order less that of MAML, in standard errors",
            in_errors(after[FIRST_ORDER] - after[MAML]),
            2.0,
        ),
        at_least(
            "one step: error of joint training less that of first-order MAML, likewise",
            in_errors(after[JOINT] - after[FIRST_ORDER]),
            2.0,
        ),
        at_least(
            "ten steps: error of joint training less that of MAML, likewise",
            in_errors(errors[JOINT][:, -1] - errors[MAML][:, -1]),
            2.0,
        ),
        at_least(
            "no step: MAML's error over that of joint training",
            errors[MAML][:, 0].mean() / errors[JOINT][:, 0].mean(),
            0.9,
        ),
    ]


def plot(result: Result):
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    for i, (name, errors) in enumerate(result.errors.items()):
        steps = np.arange(errors.shape[1])
        left.plot(steps, errors.mean(axis=0), **look(i), label=name)
        left.fill_between(steps, errors.min(0), errors.max(0), color=COLORS[i], alpha=0.18)
        right.plot(result.example["query x"], result.example[name][1], **(look(i) | {"marker": ""}))
    left.set_yscale("log")
    left.legend(frameon=False)
    tidy(
        left,
        xlabel="steps on the ten points",
        ylabel="mean squared error on new tasks",
        title="After one step MAML errs least (band: all seeds)",
    )
    right.plot(result.example["query x"], result.example["query y"], color="0.5", label="the task")
    right.plot(result.example["support x"], result.example["support y"], "k^", label="seen")
    right.legend(frameon=False)
    tidy(right, xlabel="x", ylabel="y", title="A new task after one step")
    return {"adaptation": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
