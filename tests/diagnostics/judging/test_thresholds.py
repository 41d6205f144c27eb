"""The thresholds as a value: named, changed, copied, and a tree of numbers like any tuple."""

import copy
import inspect
import pickle

import jax
import pytest

from jaxopt_tut.diagnostics import THRESHOLDS, Thresholds


@pytest.mark.parametrize(
    "again",
    [
        lambda one: one._replace(),
        copy.copy,
        copy.deepcopy,
        lambda one: pickle.loads(pickle.dumps(one)),
        lambda one: jax.tree.map(lambda x: x, one),
        lambda one: Thresholds(*one),
        lambda one: Thresholds(**one._asdict()),
    ],
    ids=["_replace", "copy", "deepcopy", "pickle", "tree.map", "by place", "by name"],
)
def test_thresholds_survive(again):
    changed = THRESHOLDS._replace(vanishing=0.01)
    assert again(changed) == changed != THRESHOLDS
    assert type(again(changed)) is Thresholds
    assert again(changed).vanishing == 0.01


def test_a_threshold_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="banishing"):
        Thresholds(banishing=0.1)


def test_the_signature_and_the_value_list_all():
    assert tuple(inspect.signature(Thresholds).parameters) == Thresholds._fields
    assert repr(THRESHOLDS).startswith("Thresholds(vanishing=0.002, exploding=30.0, ")
    assert len(THRESHOLDS) == len(Thresholds._fields) == 20
