"""What a user of SciPy types: it works, or the error says what to write."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from jaxopt_tut.optimizers import adam, bfgs, lbfgsb, minimize, norms


def rosenbrock(w):
    return jnp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)


def bowl(w):
    return jnp.sum((w - 3) ** 2)


KEYWORDS = {
    "args": ((1.0,), r"write minimize\(fun, x0, optimizer, \*args\)\."),
    "method": (None, r"write the optimizer itself, such as bfgs\(\), in the third place\."),
    "jac": (True, "write nothing: gradients come from JAX, and fun returns the value alone"),
    "hess": (None, r"Hessians come from JAX; newton\(\) and trust_region\(\)"),
    "hessp": (None, r"newton_cg\(\)"),
    "constraints": ((), r"optax.chain\(nonlinear_cg\(\), project\(...\)\)"),
    "tol": (1e-6, "write gtol=, ftol= or xtol="),
    "maxiter": (9, "write max_steps="),
    "maxfun": (9, "write max_steps="),
    "disp": (True, r"write print\(solution\)"),
    "options": (None, "write max_steps=, gtol=, ftol= or xtol="),
    "max_step": (9, r"write max_steps=\."),
    "gtoll": (9, r"write gtol=\."),
    "callbacks": (print, r"write callback=\."),
    "speed": (1, "among its options"),
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_a_keyword_is_answered_by_what_to_write(name):
    value, written = KEYWORDS[name]
    with pytest.raises(TypeError, match=f"^minimize has no {name}=.*{written}"):
        minimize(bowl, jnp.zeros(2), bfgs(), **{name: value})


def test_a_whole_call_of_scipy_is_answered_at_once():
    options = {"maxiter": 100, "gtol": 1e-8, "disp": True, "eps": 1e-8, "unheard_of": 1}
    with pytest.raises(TypeError) as caught:
        minimize(bowl, [0, 0], method="L-BFGS-B", jac=True, tol=1e-8, options=options)
    assert str(caught.value) == (
        "minimize has no method=; write in the third place lbfgs(), or lbfgsb() with bounds=. "
        "minimize has no jac=; write nothing: gradients come from JAX, and fun returns the value "
        "alone. minimize has no tol=; write gtol=, ftol= or xtol=. minimize has no options=; "
        "write for 'maxiter' max_steps=, for 'gtol' gtol=, for 'disp' print(solution), for 'eps' "
        "nothing: gradients come from JAX, for 'unheard_of' nothing."
    )


# all that SciPy's documentation of `minimize` lists
METHODS = [
    *("Nelder-Mead", "Powell", "CG", "BFGS", "Newton-CG", "L-BFGS-B", "TNC", "COBYLA", "COBYQA"),
    *("SLSQP", "trust-constr", "dogleg", "trust-ncg", "trust-exact", "trust-krylov"),
]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_of_scipy_has_an_answer(method):
    with pytest.raises(
        TypeError, match=r"no method=; write in the third place \w+\("
    ) as by_keyword:
        minimize(bowl, [0, 0], method=method)
    assert "such as" not in str(by_keyword.value)
    with pytest.raises(TypeError, match=f"as optimizer, got '{method}': write ") as by_place:
        minimize(bowl, [0, 0], method)
    assert "such as" not in str(by_place.value)


OPTIMIZERS = {
    "missing": ((), r"got none: write minimize\(fun, x0, bfgs\(\)\)"),
    "None": ((None,), "got none"),
    "not called": ((bfgs,), r"got a function: call it, bfgs\(\.\.\.\)"),
    "optax's, not called": ((optax.adam,), r"call it, adam\(\.\.\.\)"),
    "unknown name": (("descent",), "got 'descent': write the optimizer itself, such as"),
    "arguments first": (((1.0, 2.0), bfgs()), "in the third place, before the arguments of fun"),
    "an update": ((adam(0.1).update,), "got a function: call it"),
    "a class": ((norms.L2,), "got a function: call it"),
    "a number": ((0.1,), "got 0.1"),
}


@pytest.mark.parametrize(("args", "message"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_what_is_no_optimizer_is_told_so(args, message):
    with pytest.raises(TypeError, match=f"^minimize needs an optax transformation.*{message}"):
        minimize(bowl, jnp.zeros(2), *args)


TRACED = {
    "numpy": (lambda w: np.sum(np.square(np.asarray(w))), (), "write it in jax.numpy"),
    "scipy": (scipy.optimize.rosen, (), "write it in jax.numpy"),
    "float": (lambda w: float(w[0]), (), "write it in jax.numpy"),
    "if": (lambda w: w[0] ** 2 if w[0] > 0 else w[1] ** 2, (), "jnp.where for an if"),
    "tuple of arguments": (lambda w, a: bowl(w - a), ((2.0,),), "one by one, not as a tuple"),
    "its own fault": (lambda w: bowl(w) + "1", (), None),
}


@pytest.mark.parametrize(("fun", "args", "note"), TRACED.values(), ids=TRACED)
def test_an_error_within_the_function_is_its_own_with_a_note_of_what_to_write(fun, args, note):
    with pytest.raises(TypeError) as caught:
        minimize(fun, jnp.zeros(2), bfgs(), *args)
    notes = "\n".join(getattr(caught.value, "__notes__", []))
    assert note in notes if note else "minimize" not in notes


RESULTS = {"x": "params", "fun": "value", "success": "converged", "nit": "steps"}


@pytest.mark.parametrize("name", RESULTS)
def test_the_names_of_scipys_result_are_answered_by_those_of_ours(name):
    seen = []
    solution = minimize(bowl, jnp.zeros(2), bfgs(), callback=seen.append)
    with pytest.raises(AttributeError, match=rf"^Solution has no .*; write {RESULTS[name]}\."):
        getattr(solution, name)
    with pytest.raises(AttributeError, match=rf"^Progress has no .*; write {RESULTS[name]}\."):
        getattr(seen[0], name)
    assert not hasattr(solution, "other")
    assert hasattr(solution, RESULTS[name])
    assert copy.deepcopy(solution).steps == pickle.loads(pickle.dumps(solution)).steps
    assert getattr(solution.to_scipy(), name) is not None


@pytest.mark.parametrize("fun", [None, 1.0, np.zeros(2)], ids=str)
def test_what_is_no_function_is_told_so(fun):
    with pytest.raises(TypeError, match="minimize needs a function of the parameters first, got"):
        minimize(fun, jnp.zeros(2), bfgs())


BOXES = {
    "Bounds": scipy.optimize.Bounds([0, -np.inf], [0.5, np.inf]),
    "Bounds of numbers": scipy.optimize.Bounds(-9, 0.5),
    "pairs": [(0, 0.5), (None, None)],
    "tuple of pairs": ((0, 0.5), (None, 2)),
    "infinite": [(-np.inf, 0.5), (-1, np.inf)],
}


@pytest.mark.parametrize("start", [[0.1, 0.4], (0.1, 0.4), np.array([0.1, 0.4])], ids=type)
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_bounds_of_scipy_mean_here_what_they_mean_there(box, start):
    with jax.enable_x64(True):
        solution = minimize(rosenbrock, start, lbfgsb(), bounds=box)
        found = scipy.optimize.minimize(
            scipy.optimize.rosen,
            start,
            jac=scipy.optimize.rosen_der,
            bounds=box,
            method="L-BFGS-B",
            options={"gtol": 1e-8, "ftol": 0},
        )
    # a gradient of 1e-6 over the least curvature in the free direction, 200
    np.testing.assert_allclose(solution.params, found.x, atol=1e-7)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        (1, [(0, 1)]),
        (1, [[0, 1]]),
        (3, [(0, 1)] * 3),
        (3, [[0, 1]] * 3),
        (3, np.array([[0, 1]] * 3)),
        (3, scipy.optimize.Bounds(0, 1)),
        (3, scipy.optimize.Bounds([0, 0, 0], 1)),
    ],
    ids=str,
)
def test_pairs_may_be_written_as_scipy_lets_them(size, box):
    solution = minimize(bowl, np.zeros(size), lbfgsb(), bounds=box)
    np.testing.assert_array_equal(solution.params, np.ones(size))
    if size == 1:
        np.testing.assert_array_equal(minimize(bowl, 0.0, lbfgsb(), bounds=box).params, 1.0)


@pytest.mark.parametrize(
    ("box", "error", "message"),
    [
        ([[0, 1], [0, 1]], ValueError, "cannot tell whether .* write pairs as tuples"),
        (np.array([[0, 1], [0, 1]]), ValueError, "cannot tell whether"),
        ([(0, 1)] * 3, TypeError, "a pair .* for each parameter, got 3 pairs for 2"),
        ([(0, 1)], TypeError, "got 1 pairs for 2"),
        ([(1, 0), (0, 1)], ValueError, "lower <= upper, got lower=1.0 and upper=0.0"),
        ([(0, np.nan), (0, 1)], ValueError, "lower <= upper, got lower=0.0 and upper=nan"),
        (scipy.optimize.Bounds([1, 1], [0, 2]), ValueError, "lower <= upper, got lower=1.0"),
        (scipy.optimize.Bounds([0, 0, 0], [1, 1, 1]), ValueError, "of the same shape"),
        ("both", TypeError, r"needs bounds=\(lower, upper\)"),
    ],
    ids=str,
)
def test_bounds_that_are_none_are_refused_in_a_sentence(box, error, message):
    with pytest.raises(error, match=f"^minimize .*{message}"):
        minimize(bowl, jnp.zeros(2), lbfgsb(), bounds=box)
