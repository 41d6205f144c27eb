"""Choosing sites."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut import taps
from jaxopt_tut.models import mlp

PARAMS = mlp.init(jax.random.key(0), (4, 3, 2))
X = jnp.ones((5, 4))
LAYERS = ["0/kernel", "0/kernel/activation", "1/kernel"]


def names(select):
    shapes = jax.eval_shape(taps.record(mlp.apply, select), PARAMS, X)
    return list(shapes[1])


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("layers", LAYERS),
        ("1/kernel", LAYERS[2:]),
        ("[01]/kernel", LAYERS[::2]),
        (["1/kernel", "0/kernel"], LAYERS[::2]),
        ("*/activation", LAYERS[1:2]),
        ("op:dot_*", ["0/kernel/dot_general", "1/kernel/dot_general"]),
        (lambda site: site.kind == "activation", LAYERS[1:2]),
        (
            ["layers", "op:dot_general"],
            ["0/kernel/dot_general", *LAYERS[:2], "1/kernel/dot_general", "1/kernel"],
        ),
    ],
    ids=["layers", "name", "glob", "list", "suffix", "operation", "predicate", "both"],
)  # fmt: skip
def test_selections(select, expected):
    assert names(select) == expected


def test_a_star_takes_every_floating_value():
    assert names("*") == [site.name for site in taps.sites(mlp.apply, PARAMS, X)]
    assert set(LAYERS) < set(names("*"))


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ValueError, match=r"no site for select='conv\*'; there are 0/kernel, 0/ker"):
        names("conv*")


def test_a_function_without_floating_values_says_so():
    with pytest.raises(ValueError, match="record found no site: the function computes no floating"):
        taps.record(lambda n: n + 1)(jnp.arange(3))


@pytest.mark.parametrize("select", [3, None, [1, "layers"]], ids=["number", "none", "mixed"])
def test_what_is_no_selection_is_refused(select):
    with pytest.raises(TypeError, match="record needs select to be a pattern, a list of patterns"):
        names(select)


@pytest.mark.parametrize("select", [lambda name: name, lambda name: [name]], ids=["one", "list"])
def test_every_name_that_is_printed_selects_itself(select):
    keys = ["['w'][0]", "w0", "w[0]", "w*", "w?", "op:sin", "[!w]", "op:*", "x", "(root)"]
    params = {key: jnp.ones(()) for key in keys}

    def fun(params):
        return {key: jnp.sin(2 * value) for key, value in params.items()}

    found = [site.name for site in taps.sites(fun, params)]
    assert len(found) == 2 * len(keys)
    recorded = [list(taps.record(fun, select(name))(params)[1]) for name in found]
    assert recorded == [[name] for name in found]


def test_a_leaf_by_the_name_of_a_selection_is_among_the_selected():
    params = {"*": jnp.ones((4, 3)), "layers": jnp.ones((3, 2))}
    fun = lambda params, x: x @ params["*"] @ params["layers"]
    for select in params:
        assert set(params) <= set(taps.record(fun, select)(params, X)[1])
