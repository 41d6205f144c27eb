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


def declaring(derivatives=("jvp", "vjp", "second"), wrt=("z", "hp", "y0")):
    """Return a mode like `Inherits` that declares what it is told."""

    class Declares(Inherits):
        pass

    Declares.derivatives, Declares.wrt = frozenset(derivatives), frozenset(wrt)
    return Declares()


START, TARGET = jnp.zeros(2), jnp.array([1.0, -2.0])


def moved(mode, name, **options):
    """Return the sum of the solution as a function of one number in the argument `name`."""

    def value(amount):
        arguments = {"y0": START, "z": TARGET, "hp": jnp.array(0.5)}
        arguments[name] = arguments[name] + amount
        y0, z, hp = arguments.values()
        options_ = {"solver": sgd, "hp": hp, "steps": 3, "diff": mode, **options}
        return jnp.sum(argmin(lambda y, z: f(y, z) + jnp.sum(y**4), y0, z, **options_).y)

    return value


def some(ways):
    """Mark all ways but two as slow."""
    return [*list(ways)[:2], *(pytest.param(w, marks=pytest.mark.slow) for w in list(ways)[2:])]


WAYS = {
    "grad": jax.grad,
    "jacfwd": jax.jacfwd,
    "jit of grad": lambda value: jax.jit(jax.grad(value)),
    "grad of jit": lambda value: jax.grad(jax.jit(value)),
    "grad of vmap": lambda value: jax.grad(lambda x: jnp.sum(jax.vmap(value)(x * jnp.ones(2)))),
    "grad of remat": lambda value: jax.grad(jax.checkpoint(value)),
}


@pytest.mark.parametrize("way", some(WAYS))
@pytest.mark.parametrize("name", ["z", "hp", "y0"])
def test_an_argument_that_a_mode_does_not_declare_raises_and_the_others_do_not(name, way):
    others = {"z", "hp", "y0"} - {name}
    mode = declaring(wrt=others)
    with pytest.raises(ValueError, match=f"with respect to {name} under Declares; modes that def"):
        WAYS[way](moved(mode, name))(0.1)
    for other in others:
        found = WAYS[way](moved(mode, other))(0.1)
        np.testing.assert_allclose(found, WAYS[way](moved(declaring(), other))(0.1), rtol=1e-6)
    assert jax.grad(moved(mode, name, strict=False))(0.1) == 0


SECOND = {
    "hessian": jax.hessian,
    "grad of grad": lambda value: jax.grad(jax.grad(value)),
    "jacfwd of jacfwd": lambda value: jax.jacfwd(jax.jacfwd(value)),
    "jacrev of jacfwd": lambda value: jax.jacrev(jax.jacfwd(value)),
    "jit within": lambda value: jax.jit(jax.jacfwd(jax.jit(jax.grad(jax.jit(value))))),
}


@pytest.mark.parametrize("way", some(SECOND))
@pytest.mark.parametrize("name", ["z", "hp", "y0"])
def test_a_second_derivative_that_a_mode_does_not_declare_raises_and_a_first_does_not(name, way):
    mode = declaring(derivatives=("jvp", "vjp"))
    with pytest.raises(ValueError, match="of second order under Declares; modes that define it"):
        SECOND[way](moved(mode, name))(0.1)
    for first in (jax.grad, jax.jacfwd):
        found = first(moved(mode, name))(0.1)
        np.testing.assert_allclose(found, first(moved(declaring(), name))(0.1), rtol=1e-6)
    found = SECOND[way](moved(declaring(), name))(0.1)
    assert jnp.isfinite(found)
    assert found != 0
    # what surrounds the solution has second derivatives of its own
    curved = lambda x: x**2 * moved(mode, name)(jax.lax.stop_gradient(x))
    assert jnp.isfinite(SECOND[way](curved)(0.1))


@pytest.mark.parametrize("name", ["z", "hp", "y0"])
def test_a_mode_that_goes_forwards_only_raises_backwards_and_hypergrad_pushes_tangents(name):
    mode = declaring(derivatives=("jvp", "second"))
    with pytest.raises(ValueError, match="in reverse mode under Declares; modes that define it"):
        jax.grad(moved(mode, name))(0.1)
    # three steps in another order: some ten roundings of 1e-7 each
    np.testing.assert_allclose(
        jax.jacfwd(moved(mode, name))(0.1), jax.grad(moved(declaring(), name))(0.1), rtol=2e-6
    )
    gradient = lambda mode: hypergrad(
        lambda y, _: jnp.sum(y**2),
        f,
        START,
        TARGET,
        solver=sgd,
        hp=jnp.array(0.3),
        steps=3,
        diff=mode,
        wrt=(name,),
    )[1][name]
    np.testing.assert_allclose(gradient(mode), gradient(declaring()), rtol=2e-6)


def test_a_second_derivative_through_hypergrad_is_refused_too():
    def slope(mode, z):
        options = {"solver": sgd(0.3), "steps": 3, "diff": mode}
        return hypergrad(lambda y, _: jnp.sum(y**2), f, START, z, **options)[1]["z"]

    with pytest.raises(ValueError, match="hypergrad has no derivative of second order under Decl"):
        jax.jacfwd(lambda z: slope(declaring(derivatives=("jvp", "vjp")), z))(TARGET)
    assert jnp.isfinite(jax.jacfwd(lambda z: slope(declaring(), z))(TARGET)).all()


class Silent(Mode):
    def run(self, problem, inputs):
        return problem.run(inputs)


SAID = {"derivatives": frozenset({"jvp"}), "wrt": frozenset({"z"}), "is_exact": True}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, r"^argmin needs a mode whose derivatives is a set .* got Told with derivatives=None"),
        ({"wrt": None}, "whose wrt is a set of some of .* got Told with wrt=None"),
        ({"wrt": "z"}, "got Told with wrt='z'"),
        ({"wrt": {"z", "lambda"}}, "whose wrt is a set of some of"),
        ({"derivatives": {"vjp", "third"}}, "whose derivatives is a set of some of"),
        ({"is_exact": None}, "whose is_exact is True or False, got Told with is_exact=None"),
    ],
)
def test_a_mode_that_does_not_say_what_it_defines_is_told_so(said, message):
    Told = type("Told", (Silent,), {**SAID, **said} if said else {})
    with pytest.raises(TypeError, match=message):
        argmin(f, START, TARGET, solver=sgd(0.5), steps=3, diff=Told())


class GivesAPoint(Inherits):
    def run(self, problem, inputs):
        return problem.start(inputs).y


class OneWay(Inherits):
    def run(self, problem, inputs):
        return problem.run(inputs, 3)


@pytest.mark.parametrize(
    ("diff", "error", "message"),
    [
        (GivesAPoint(), TypeError, r"needs GivesAPoint\.run to return a bilevel\.Run, got .*: pr"),
        (
            OneWay(),
            ValueError,
            r"needs OneWay\.run to go backwards, .* by problem\.advance, in a s",
        ),
        (
            Inherits,
            TypeError,
            r"needs a mode, got its class, diff=Inherits: call it, Inherits\(\)\.",
        ),
        (Silent, TypeError, r"needs a mode, got its class, diff=Silent: call it, Silent\(\)\."),
        (Alike, TypeError, r"needs one of the modes .*, got diff=<class"),
    ],
    ids=["point", "loop", "class", "plain class", "class of no mode"],
)
def test_a_mode_that_is_written_wrongly_is_told_how(diff, error, message):
    with pytest.raises(error, match="^hypergrad " + message):
        hypergrad(lambda y, _: jnp.sum(y**2), f, START, TARGET, solver=sgd(0.3), steps=3, diff=diff)


class Steps:
    """What looks like a solver and lacks most of it."""

    def step(self, objective, y, state, hp):
        return y, state, objective(y) * hp

    def __call__(self, y):
        return y


@pytest.mark.parametrize(
    ("solver", "error", "message"),
    [
        (
            Steps(),
            TypeError,
            r"^argmin needs a solver with all that bilevel.Solver has, got Steps without "
            r"is_whole, is_differentiable, is_symmetric, bounded, init, residual: inherit from",
        ),
        (lambda hp: sgd(hp), ValueError, r"needs hp=\.\.\. for a solver .* inherits from bilevel"),
        (3, TypeError, "needs an optax transformation, a function .* got solver=3"),
    ],
    ids=["lacks", "function", "number"],
)
def test_what_is_no_solver_is_told_what_one_is(solver, error, message):
    with pytest.raises(error, match=message):
        argmin(f, START, TARGET, solver=solver, steps=3)
