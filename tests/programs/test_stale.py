"""A sweep in a script or a notebook gets the result of each of its values."""

import types

import numpy as np
import pytest

SCRIPT = """
import array
import contextvars
import dataclasses
import functools
import jax
import jax.numpy as jnp
import numpy as np
import optax
import types
from jaxopt_tut import linalg
from jaxopt_tut.bilevel import Implicit, Minimize, Proximal, Unroll, argmin, bilevel_step, hypergrad
from jaxopt_tut.optimizers import *

start = jnp.zeros(2)
distance = lambda w: jnp.sum((w - 1) ** 2)
once = {"max_steps": 1, "gtol": 0.0}
found = []
"""

# each script appends a number a round: the first coordinate where one step of rate 1/2 ends for
# the targets 1, 2, 3, or what an equally simple formula gives
TARGETS = {
    "a lambda that reads a global": """
for target in (1.0, 2.0, 3.0):
    loss = lambda w: jnp.sum((w - target) ** 2)
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "one function that reads a global": """
def loss(w):
    return jnp.sum((w - target) ** 2)

for target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "one function whose helper reads a global": """
def away(w):
    return w - target

def loss(w):
    return jnp.sum(away(w) ** 2)

for target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a helper that is defined anew": """
def loss(w):
    return jnp.sum(away(w) ** 2)

for target in (1.0, 2.0, 3.0):
    def away(w, target=target):
        return w - target
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a closure": """
def loss_of(target):
    return lambda w: jnp.sum((w - target) ** 2)

for target in (1.0, 2.0, 3.0):
    found.append(minimize(loss_of(target), start, sgd(0.5), **once).params[0])
""",
    "one closure whose cell changes": """
def make():
    target = 0.0
    def loss(w):
        return jnp.sum((w - target) ** 2)
    def move(to):
        nonlocal target
        target = to
    return loss, move

loss, move = make()
for target in (1.0, 2.0, 3.0):
    move(target)
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "arrays of one name": """
loss = lambda w: jnp.sum((w - target) ** 2)
for target in jnp.array([1.0, 2.0, 3.0]):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "an array changed in place": """
target = np.zeros(2, np.float32)
loss = lambda w: jnp.sum((w - target) ** 2)
for number in (1.0, 2.0, 3.0):
    target[:] = number
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a dictionary of settings": """
config = {"data": {"target": 0.0}}
loss = lambda w: jnp.sum((w - config["data"]["target"]) ** 2)
for config["data"]["target"] in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a class of settings": """
class Config:
    target = 0.0

loss = lambda w: jnp.sum((w - Config.target) ** 2)
for Config.target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a module of settings": """
import types
settings = types.ModuleType("settings")
loss = lambda w: jnp.sum((w - settings.target) ** 2)
for settings.target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "default arguments": """
for target in (1.0, 2.0, 3.0):
    loss = lambda w, t=target: jnp.sum((w - t) ** 2)
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "defaults that are changed": """
def loss(w, t=0.0):
    return jnp.sum((w - t) ** 2)

for target in (1.0, 2.0, 3.0):
    loss.__defaults__ = (target,)
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "an attribute of the function": """
def loss(w):
    return jnp.sum((w - loss.target) ** 2)

for loss.target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "partial": """
loss = lambda t, w: jnp.sum((w - t) ** 2)
for target in (1.0, 2.0, 3.0):
    found.append(minimize(functools.partial(loss, target), start, sgd(0.5), **once).params[0])
""",
    "one partial whose keyword changes": """
loss = functools.partial(lambda w, t: jnp.sum((w - t) ** 2), t=0.0)
for loss.keywords["t"] in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a method of an object that changes": """
class Model:
    target = 0.0
    def loss(self, w):
        return jnp.sum((w - self.target) ** 2)

model = Model()
for model.target in (1.0, 2.0, 3.0):
    found.append(minimize(model.loss, start, sgd(0.5), **once).params[0])
""",
    "a method that reads a random state": """
class Model:
    def __init__(self):
        self.targets = iter([1.0, 2.0, 3.0])
    def loss(self, w):
        self.target = next(self.targets)
        return jnp.sum((w - self.target) ** 2)

for number in (1, 2, 3):
    model = Model()
    [next(model.targets) for _ in range(number - 1)]
    model.targets = iter(list(model.targets)[:1] * 100)
    found.append(minimize(model.loss, start, sgd(0.5), **once).params[0])
""",
    "a method of a tuple": """
import typing
class Model(typing.NamedTuple):
    target: float
    def loss(self, w):
        return jnp.sum((w - self.target) ** 2)

for target in (1.0, 2.0, 3.0):
    found.append(minimize(Model(target).loss, start, sgd(0.5), **once).params[0])
""",
    "an object that is called": """
class Loss:
    def __call__(self, w):
        return jnp.sum((w - self.target) ** 2)

loss = Loss()
for loss.target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "objects that call themselves equal": """
@dataclasses.dataclass(frozen=True)
class Loss:
    target: float = dataclasses.field(compare=False)
    def __call__(self, w):
        return jnp.sum((w - self.target) ** 2)

for target in (1.0, 2.0, 3.0):
    found.append(minimize(Loss(target), start, sgd(0.5), **once).params[0])
""",
    "an object with slots": """
class Loss:
    __slots__ = ("target",)
    def __call__(self, w):
        return jnp.sum((w - self.target) ** 2)

loss = Loss()
for loss.target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "an object that inherits a setting": """
class Base:
    target = 0.0
class Loss(Base):
    def __call__(self, w):
        return jnp.sum((w - self.target) ** 2)

loss = Loss()
for Base.target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "settings whose entries are attributes": """
class Config(dict):
    __getattr__ = dict.__getitem__

config = Config(target=0.0)
loss = lambda w: jnp.sum((w - config.target) ** 2)
for config["target"] in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a list with an attribute": """
class Targets(list):
    pass

targets = Targets()
loss = lambda w: jnp.sum((w - targets.first) ** 2)
for targets.first in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a view of a dictionary": """
config = {"target": 0.0}
values, proxy = config.values(), types.MappingProxyType(config)
loss = lambda w: jnp.sum((w - max(values)) ** 2) + 0.0 * proxy["target"]
for config["target"] in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a NumPy array of objects": """
settings = np.array([0.0, None], object)
loss = lambda w: jnp.sum((w - settings[0]) ** 2)
for settings[0] in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "bytes that are shared": """
buffer = bytearray([0])
shared = memoryview(buffer)
loss = lambda w: jnp.sum((w - float(shared[0])) ** 2)
for buffer[0] in (1, 2, 3):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "an array of the standard library": """
targets = array.array("f", [0.0])
loss = lambda w: jnp.sum((w - targets[0]) ** 2)
for targets[0] in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a context variable": """
variable = contextvars.ContextVar("target")
loss = lambda w: jnp.sum((w - variable.get()) ** 2)
for target in (1.0, 2.0, 3.0):
    variable.set(target)
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "the table of globals": """
loss = lambda w: jnp.sum((w - globals()["tar" + "get"]) ** 2)
for target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a setting by its name": """
settings = types.ModuleType("settings")
loss = lambda w: jnp.sum((w - getattr(settings, "target")) ** 2)
for settings.target in (1.0, 2.0, 3.0):
    found.append(minimize(loss, start, sgd(0.5), **once).params[0])
""",
    "a schedule": """
for rate in (0.5, 1.0, 1.5):
    found.append(minimize(distance, start, sgd(lambda t: rate), **once).params[0])
""",
    "a schedule of optax over a lambda": """
for rate in (0.5, 1.0, 1.5):
    schedule = optax.join_schedules([lambda t: rate, lambda t: 0.0], [5])
    found.append(minimize(distance, start, sgd(schedule), **once).params[0])
""",
    "a schedule of a method": """
class Rates:
    def at(self, t):
        return self.rate

rates = Rates()
for rates.rate in (0.5, 1.0, 1.5):
    found.append(minimize(distance, start, sgd(rates.at), **once).params[0])
""",
    "a projection": """
for bound in (1.0, 2.0, 3.0):
    inside = project(lambda w: jnp.clip(w, bound, 9.0))
    found.append(minimize(distance, start, optax.chain(sgd(0.5), inside), **once).params[0])
""",
    "a linear solve": """
for scale in (1.0, 2.0, 3.0):
    solve = lambda hessian, gradient: scale * jnp.linalg.solve(hessian, gradient)
    optimizer = newton(solve=solve, line_search=optax.identity())
    found.append(minimize(distance, start, optimizer, **once).params[0])
""",
    "a norm": """
class Scaled:
    def norm(self, x): return jnp.max(jnp.abs(x)) / scale
    def dual_norm(self, g): return scale * jnp.sum(jnp.abs(g))
    def steepest(self, g): return scale * jnp.sign(g)

norm = Scaled()
for scale in (1.0, 2.0, 3.0):
    optimizer = steepest_descent(1.0, norm=norm, scale_by_dual_norm=False)
    found.append(minimize(distance, start, optimizer, **once).params[0])
""",
    "a transformation of functions": """
for scale in (1.0, 2.0, 3.0):
    direction = lambda g, s, p=None: (jax.tree.map(lambda leaf: scale * jnp.sign(leaf), g), s)
    sign = optax.GradientTransformation(lambda p: (), direction)
    optimizer = optax.chain(sign, optax.scale(-1.0))
    found.append(minimize(distance, start, optimizer, **once).params[0])
""",
    "a mask": """
for scale in (1.0, 2.0, 3.0):
    optimizer = optax.chain(sgd(0.5), optax.masked(optax.stateless(
        lambda u, p: jax.tree.map(lambda leaf: scale * leaf, u)), lambda p: True))
    found.append(minimize(distance, start, optimizer, **once).params[0])
""",
    "residuals": """
loss = lambda w: 0.5 * jnp.sum((w - target) ** 2)
for target in (1.0, 2.0, 3.0):
    residual = lambda w: w - target
    solution = minimize(loss, start, gauss_newton(), residual_fn=residual, **once)
    found.append(solution.params[0])
""",
    "numbers": """
for rate in (0.5, 1.0, 1.5):
    found.append(minimize(distance, start, sgd(rate), **once).params[0])
""",
    "numbers of different types": """
for rate in (np.float32(0.5), jnp.float32(1.0), 1.5):
    found.append(minimize(distance, start, sgd(rate), **once).params[0])
""",
    "bounds in NumPy": """
bound = np.zeros(2, np.float32)
for number in (1.0, 2.0, 3.0):
    bound[:] = number
    inside = project(projections.box(bound, bound + 1))
    found.append(minimize(distance, start, optax.chain(sgd(0.5), inside), **once).params[0])
""",
}


@pytest.mark.parametrize("name", TARGETS)
def test_every_round_of_a_sweep_is_right(name):
    # at module level: functions find their globals there, and have no cells
    module = types.ModuleType("script")
    exec(SCRIPT + TARGETS[name], module.__dict__)
    np.testing.assert_allclose(module.found, [1.0, 2.0, 3.0], rtol=1e-6)
