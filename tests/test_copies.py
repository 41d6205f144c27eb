"""Whatever the library returns can be copied, pickled where its content can, and compared."""

import copy
import dataclasses
import inspect
import math
import pickle
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import autodiff
from tests.test_shown import EXAMPLES, LISTED, RECORDS, WRITTEN, filled

# records that hold anything at all are no results to a checker
pytestmark = pytest.mark.untyped

FILLINGS = {
    "arrays": jnp.arange(6.0).reshape(2, 3),
    "arrays of the host": np.arange(6.0).reshape(2, 3),
    "trees": {"kernel": jnp.ones((2, 3)), "bias": [np.ones(3)]},
    "keys": jax.random.key(3),
    "functions": math.sin,
    "nothing": None,
}
WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda record: pickle.loads(pickle.dumps(record)),
}


def numbers(leaf):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def assert_same(again, record):
    assert type(again) is type(record)
    names = getattr(record, "_fields", None) or [f.name for f in dataclasses.fields(record)]
    for name in names:
        found, wanted = (
            jax.tree.flatten(getattr(again, name)),
            jax.tree.flatten(getattr(record, name)),
        )
        assert found[1] == wanted[1], name
        for one, other in zip(found[0], wanted[0], strict=True):
            np.testing.assert_array_equal(numbers(one), numbers(other), name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_can_be_copied_with_arrays_functions_and_keys_inside(name, way):
    for filling in FILLINGS.values():
        record = filled(RECORDS[name], filling)
        if name == "autodiff.Graph":
            if way != "pickle":
                assert WAYS[way](record) is record
            continue
        assert_same(WAYS[way](record), record)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_result_can_be_copied(name, way):
    result = EXAMPLES[name][0]()
    if way == "pickle" and isinstance(result, autodiff.Graph):
        with pytest.raises(TypeError, match="Graph cannot be pickled"):
            WAYS[way](result)
    else:
        assert repr(WAYS[way](result)) == repr(result)


def test_a_graph_is_its_own_copy_and_says_why_it_is_not_pickled():
    graph = autodiff.trace(lambda x: jax.nn.relu(jnp.sin(x)))(1.0)
    call = next(node for node in graph.nodes if node.body is not None)
    assert copy.copy(graph) is copy.deepcopy(graph) is graph
    assert copy.deepcopy(call) == call
    for holder in (graph, call, {"graph": [graph]}):
        with pytest.raises(TypeError, match="pickle the function, and trace it"):
            pickle.dumps(holder)


# What users write or choose by value: equal where its parts are. It holds numbers, not arrays.
BY_VALUE = (WRITTEN - {"optimizers.Status", "diagnostics.Thresholds"}) | {
    "bilevel.ClosedForm", "bilevel.Problem", "bilevel.Proximal", "taps.Site", "training.Batches",
    "training.CheckpointReport", "training.Choice", "training.Verification",
}  # fmt: skip
DATACLASSES = {name for name, cls in RECORDS.items() if dataclasses.is_dataclass(cls)}


@pytest.mark.parametrize("name", sorted(DATACLASSES - {"optimizers.Status"}))
def test_results_are_compared_without_a_look_into_their_arrays(name):
    cls = RECORDS[name]
    record, other = (filled(cls, 3.0) for _ in range(2))
    assert (record == other) is (name in BY_VALUE)
    assert hash(record) == hash(record)
    if name not in BY_VALUE:
        record, other = (filled(cls, jnp.ones(3)) for _ in range(2))
        assert record == record
        assert record != other
        assert len({record, other, record}) == 2


def parts_of(hint):
    """Yield the classes in an annotation, those of its fields too."""
    hint = getattr(hint, "__value__", hint)
    if inspect.isclass(hint) and hint.__module__.startswith("jaxopt_tut."):
        yield hint
        if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
            hints = typing.get_type_hints(hint).values()
            yield from (part for inner in hints for part in parts_of(inner))
    for inner in typing.get_args(hint):
        yield from parts_of(inner)


STATIC = {
    name: [
        field.name for field in dataclasses.fields(RECORDS[name]) if field.metadata.get("static")
    ]
    for name in DATACLASSES
}


@pytest.mark.parametrize("name", sorted(name for name, static in STATIC.items() if static))
def test_what_is_static_in_a_result_is_compared_by_value(name):
    hints = typing.get_type_hints(RECORDS[name])
    for field in STATIC[name]:
        for part in parts_of(hints[field]):
            if not getattr(part, "_is_protocol", False):
                # else each result would compile anew what is handed it
                assert part.__eq__ is not object.__eq__, (field, part)


@pytest.mark.parametrize("name", EXAMPLES)
def test_results_made_twice_are_one_program(name):
    first, second = (EXAMPLES[name][0]() for _ in range(2))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert hash(jax.tree.structure(first)) == hash(jax.tree.structure(second))
    assert type(jax.tree.map(lambda leaf: leaf, first)) is type(first)
    if all(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(first)):
        traces = []
        count = jax.jit(lambda result: traces.append(result))
        count(first)
        count(second)
        assert len(traces) == 1


def test_a_result_can_be_a_static_argument_and_a_key_of_a_dictionary():
    for name in sorted(DATACLASSES - BY_VALUE - {"optimizers.Status"}):
        record = filled(RECORDS[name], jnp.ones(3))
        traces = []
        taken = jax.jit(lambda _, x, traces=traces: traces.append(x), static_argnums=0)
        taken(record, 1.0)
        taken(record, 2.0)
        assert len(traces) == 1, name
        assert {record: name}[record] == name
        assert record in [record]
        assert record not in [filled(RECORDS[name], jnp.ones(3))]


def test_named_tuples_are_compared_as_tuples():
    for name in sorted(set(LISTED) - DATACLASSES):
        record, other = (filled(RECORDS[name], 3.0) for _ in range(2))
        assert record == other == tuple(other)
        with pytest.raises(ValueError, match="truth value"):
            bool(filled(RECORDS[name], np.ones(3)) == filled(RECORDS[name], np.ones(3)))


def test_a_status_is_compared_with_its_codes():
    status = EXAMPLES["solutions"][0]().status
    assert (status == 0).tolist() == [True] * 64
