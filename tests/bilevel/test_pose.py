"""An inner problem as posed: taken apart and put together, with a mode of one's own."""

from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import Mode, Stream, Unroll, argmin, hypergrad
from jaxopt_tut.bilevel.pose import Pose
from jaxopt_tut.optimizers import sgd

ROWS = {"x": jnp.arange(6.0).reshape(3, 2)}


def draw(key, step):
    return jax.random.normal(jax.random.fold_in(key, step), (2,))


def f(y, z):
    return jnp.sum(0.5 * (y - z) ** 2)


def pose(**options):
    start, z = jnp.zeros(2), jnp.array([1.0, -2.0])
    default = {"caller": "argmin", "f": f, "y0": start, "z": z, "solver": sgd(0.5), "steps": 3}
    return Pose(**{**default, "diff": Unroll(), **options})


@pytest.mark.parametrize("batches", [None, ROWS, Stream(draw, jax.random.key(0))], ids=type)
def test_a_pose_taken_apart_and_joined_is_the_same(batches):
    whole = pose(batches=batches)
    made_of, inputs = whole.split()
    joined = made_of.joined(inputs)
    assert all(getattr(joined, part.name) is getattr(whole, part.name) for part in fields(Pose))
    assert made_of.y0 is None
    assert made_of.z is None
    # the operands of a program are arrays
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(inputs))


def test_a_pose_takes_names_only():
    with pytest.raises(TypeError, match="positional"):
        Pose("argmin", f)  # type: ignore[call-arg]


def test_what_is_returned_beside_the_value_is_dropped_and_the_rest_stays():
    problem, inputs = pose(f=lambda y, z: (f(y, z), {"size": y})).problem()
    np.testing.assert_array_equal(problem.objective_at(inputs, 0)(inputs.z), 0.0)
    plain, _ = pose().problem()
    assert plain.f is f


@dataclass(frozen=True)
class Inherits(Mode):
    """Differentiates the steps and nothing else that `Mode` has not."""

    derivatives = frozenset({"jvp", "vjp"})
    wrt = frozenset({"z"})
    is_exact = True

    def run(self, problem, inputs):
        run = problem.start(inputs)
        for index in range(problem.num_steps):
            run = problem.move(inputs, run, index)
        return run


class Alike:
    """The same without a base."""

    derivatives = Inherits.derivatives
    wrt = Inherits.wrt
    is_exact = True

    def chosen(self, _problem, _inputs):
        return self

    def run(self, problem, inputs):
        return Inherits.run(self, problem, inputs)

    def hypergrad(self, outer, problem, inputs, wrt, certify):
        return Mode.hypergrad(self, outer, problem, inputs, wrt, certify)

    def num_bytes(self, _problem, _inputs):
        return 7


@pytest.mark.parametrize("wrap", [lambda g: g, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("mode", [Inherits(), Alike()], ids=["inherits", "alike"])
def test_a_mode_of_ones_own_differentiates(mode, wrap):
    # three steps of rate 1/2 keep 1 - 1/8 of the target, and of its derivative
    z = jnp.array([1.0, -2.0])

    @wrap
    def both(z):
        y = argmin(f, jnp.zeros(2), z, solver=sgd(0.5), steps=3, diff=mode).y
        options = {"solver": sgd(0.5), "steps": 3, "diff": mode}
        _, grads, _ = hypergrad(lambda y, _: jnp.sum(y), f, jnp.zeros(2), z, **options)
        return y, grads["z"]

    y, grad = both(z)
    np.testing.assert_allclose(y, 0.875 * z, rtol=1e-6)
    np.testing.assert_allclose(grad, [0.875, 0.875], rtol=1e-6)


@pytest.mark.parametrize("mode", [Inherits(), Alike()], ids=["inherits", "alike"])
def test_a_mode_of_ones_own_is_asked_what_it_defines(mode):
    match = r"respect to hp under (Inherits|Alike); modes that define it: Unroll\(\), Forward\(\)"
    with pytest.raises(ValueError, match=match):
        hypergrad(
            lambda y, _: jnp.sum(y),
            f,
            jnp.zeros(2),
            jnp.ones(2),
            solver=sgd,
            steps=2,
            diff=mode,
            hp=0.1,
            wrt=("hp",),
        )
