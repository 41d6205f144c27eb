"""A traced function is read once, and knows its parameters from its data."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut.models import mlp
from jaxopt_tut.taps import program as program_module
from jaxopt_tut.taps.layers import require_examples, require_layers
from jaxopt_tut.taps.program import trace_program

PARAMS = mlp.init(jax.random.key(0), (4, 8, 3))
X = jnp.ones((2, 4))


def test_the_graph_is_read_once_for_sites_layers_and_provenance(monkeypatch):
    calls = []

    def counted(jaxpr):
        calls.append(jaxpr)
        return read_graph(jaxpr)

    read_graph = program_module.read_graph
    monkeypatch.setattr(program_module, "read_graph", counted)
    program = trace_program("test", mlp.apply, (PARAMS, X))
    assert calls == []  # only once somebody asks
    assert program.layers is program.layers
    assert program.sites is program.sites
    assert len(program.provenance.origins) == len(program.nodes)
    assert len(calls) == 1


def test_fans_and_depths_of_a_perceptron():
    program = trace_program("test", mlp.apply, (PARAMS, X))
    found = [(layer.name, layer.fan_in, layer.fan_out, layer.depth) for layer in program.layers]
    assert found == [("0/kernel", 4, 8, 1), ("1/kernel", 8, 3, 2)]


def test_parameters_and_data_are_told_apart():
    program = trace_program("test", mlp.apply, (PARAMS, X))
    assert list(program.params) == ["0/bias", "0/kernel", "1/bias", "1/kernel"]
    assert program.params["1/kernel"] is PARAMS[1]["kernel"]
    assert [array is X for array in program.data] == [True]
    bound = trace_program("test", lambda x: mlp.apply(PARAMS, x), (X,))
    assert (bound.params, len(bound.data)) == ({}, 1)  # the weights are closed over


def test_a_layer_is_tapped_where_its_site_is():
    program = trace_program("test", lambda w, x: jnp.tanh(x @ w), (jnp.ones((4, 3)), X))
    (layer,) = program.layers
    assert layer.pre_activation in program.sites
    assert layer.bend == layer.pre_activation
    assert layer.activation in program.sites
    assert layer.activation.site.op == "tanh"


def test_a_program_that_prints_or_is_traced_is_not_run_twice():
    def loud(x):
        jax.debug.print("{}", x)
        return x

    assert trace_program("test", lambda x: 2 * x, (X,)).is_repeatable
    assert not trace_program("test", loud, (X,)).is_repeatable
    seen = []
    jax.jit(lambda x: seen.append(trace_program("test", jnp.sin, (x,)).is_repeatable) or x)(X)
    assert seen == [False]


def test_no_layer_and_no_second_example_are_refused():
    none = trace_program("caller", lambda w, x: x * w, (jnp.ones(4), X)).layers
    with pytest.raises(
        ValueError, match=r"^caller found no layer: no weight among the parameters meets data\.$"
    ):
        require_layers("caller", none)
    with pytest.raises(ValueError, match=r"^caller found no layer: 'w': it lies inside relu$"):
        require_layers("caller", none, {"w": "it lies inside relu"})
    layers = trace_program("caller", mlp.apply, (PARAMS, X[:1])).layers
    require_layers("caller", layers)
    with pytest.raises(
        ValueError,
        match=r"^caller needs a batch of at least two examples, got one at '0/kernel'\.$",
    ):
        require_examples("caller", layers)
