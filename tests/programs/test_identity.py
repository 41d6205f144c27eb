"""What counts as the same, and what as never changing."""

import json

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_tut.programs import identity


def test_numbers_are_equal_by_type_and_value():
    assert identity.plain(0.5) == identity.plain(0.5)
    assert len({identity.plain(x) for x in (1, 1.0, True, 0.0, -0.0, "1", b"1", None)}) == 8
    assert identity.plain([]) is None
    assert identity.content(np.arange(3)) == identity.content(np.array([0, 1, 2]))
    assert identity.content(np.arange(3)) != identity.content(np.arange(3.0))


@pytest.mark.parametrize(
    ("module", "library", "installed"),
    [
        ("optax._src.base", True, True),
        ("jaxopt_tut.autodiff", True, True),
        ("json.decoder", False, True),
        ("flax", False, True),
        ("__main__", False, False),
        ("optaxial", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_libraries_stay_and_what_is_worked_on_may_change(module, library, installed):
    assert identity.is_library(module) == library
    assert identity.is_installed(module) == installed


def test_a_class_without_a_module_is_not_built_in():
    exec("class Config: pass", scope := {})
    assert scope["Config"].__module__ == "builtins"
    assert not identity.is_installed_class(scope["Config"])
    assert all(map(identity.is_installed_class, (dict, json.JSONDecoder, nnx.Module)))


def test_a_function_is_a_librarys_only_where_it_was_defined():
    def claims():
        return 0

    claims.__module__ = "optax"
    assert identity.is_library_function(optax.adam)
    assert not identity.is_library_function(claims)
    assert identity.is_library_global(jax.nn.relu)
    assert not identity.is_library_global(optax.sgd(0.1).update)
