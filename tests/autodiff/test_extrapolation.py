"""Slopes come with honest errors, and what has no slope is told from what is smooth."""

import numpy as np
import pytest

from jaxopt_tut.autodiff import extrapolation as ex

STEPS = 2.0 ** np.arange(12, -51, -2)
EPS = np.finfo(np.float64).eps


def differences(fun, x, scale):
    """Along the direction `scale`, with the function's own rounding."""
    with np.errstate(all="ignore"):
        ahead, behind = (
            np.array([fun(x + s * h * scale) - fun(x) for h in STEPS])[:, None] for s in (1, -1)
        )
        size = np.array([abs(fun(x))])
    return ex.Differences(STEPS, ahead, behind, size, size, np.zeros(1, int), EPS)


def verdict(given, derivative):
    slope = ex.extrapolate(given)
    options = {"tolerance": 1e-8, "resolution": 0.01, "thorough": True}
    found = ex.judge(np.array([derivative]), slope, given, **options)
    return ex.VERDICTS[found.verdict[0]]


SMOOTH = {
    "exp": (np.exp, np.exp, 1.0),
    "line": (lambda x: 3 * x, 3.0, 0.7),
    "tanh of 1000 x": (lambda x: np.tanh(1e3 * x), lambda x: 1e3 / np.cosh(1e3 * x) ** 2, 1e-3),
    "sine at 1e9": (np.sin, np.cos, 1e9),
    "a millionth of the value": (lambda x: 1e6 + np.sin(x), np.cos, 0.4),
    "square at its minimum": (lambda x: 1 + x * x, 0.0, 0.0),
    "a kink at 1e-7 of the leaf": (lambda x: abs(x - 1), 1.0, 1 + 1e-7),
    "pole nearby": (lambda x: 1 / (x - 1), lambda x: -1 / (x - 1) ** 2, 1 + 2.0**-14),
    "ends of the domain nearby": (lambda x: np.sqrt(x), lambda x: 0.5 / np.sqrt(x), 1e-5),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_have_their_slope_within_three_errors(name):
    fun, slope, x = SMOOTH[name]
    scale = 2.0 ** np.floor(np.log2(abs(x) or 1.0))  # or x + h * scale would be rounded
    given = differences(fun, x, scale)
    found, expected = ex.extrapolate(given), (slope(x) if callable(slope) else slope) * scale
    assert abs(found.value[0] - expected) <= 3 * found.error[0]
    assert found.error[0] <= 1e-3 * (abs(expected) or 1e-6)
    assert verdict(given, expected) == "right"
    if expected:
        assert verdict(given, 1.02 * expected) == "wrong"


SINGULAR = {
    "abs": (abs, 0.0),
    "relu": (lambda x: max(x, 0.0), 0.0),
    "a kink below rounding": (lambda x: abs(x - 1), 1 + 1e-15),
    "a small kink": (lambda x: np.exp(x) + 1e-3 * abs(x), 0.0),
    "root": (np.sqrt, 0.0),
    "cube root": (np.cbrt, 0.0),
    "root of the size": (lambda x: np.sqrt(abs(x)), 0.0),
    "jump": (np.floor, 2.0),
    "median of a tie": (lambda x: np.sort([1 + x, 1 + 2 * x, 1 - x])[2], 0.0),
}


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("derivative", [0.0, 0.5, 1.0, np.nan, np.inf])
def test_kinks_jumps_and_ends_of_the_domain_are_not_called_wrong(name, derivative):
    fun, x = SINGULAR[name]
    assert verdict(differences(fun, x, 1.0), derivative) == "not differentiable here"


def test_what_rounding_hides_is_inconclusive():
    """The leaf moves the last three digits of float64 and nothing else."""
    given = differences(lambda x: 1.0 + 1e-13 * np.tanh(1e4 * x), 0.0, 1.0)
    assert verdict(given, 1e-9) == "inconclusive"
    assert verdict(given, 5e-8) == "wrong"


@pytest.mark.parametrize("seed", range(5))
def test_the_error_covers_noise_of_any_size(seed):
    rng = np.random.default_rng(seed)
    noise = 10.0 ** rng.uniform(-14, -4)
    given = differences(lambda x: np.exp(x) + noise * rng.uniform(-1, 1), 0.3, 1.0)
    found = ex.extrapolate(given)
    assert abs(found.value[0] - np.exp(0.3)) <= 3 * found.error[0]
