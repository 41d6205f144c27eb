"""Networks as their libraries draw them get no verdict, and what is planted in them does.

`python -m benchmarks doctor` measures the rates over many draws; here one of each is enough to see
a threshold or a wiring that has gone wrong. Compiling is what costs: seeds vary, not shapes.
"""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import doctor_faults, doctor_models
from jaxopt_tut.diagnostics import diagnose

IMAGES = jax.random.normal(jax.random.key(0), (16, 28, 28))
LABELS = jax.random.randint(jax.random.key(1), (16,), 0, doctor_models.CLASSES)
DATA = doctor_models.batches(IMAGES, LABELS, jax.random.key(2))
MODELS = doctor_models.default_models(DATA, width=8)
ADAM = doctor_faults.adam_at_a_rate_among_the_parameters()
# One of each kind of wiring in the quick part of the suite.
QUICK = ("GNN, equinox", "GRU, equinox", "optimized LSTM, nnx", "NTK")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS],
)
def test_a_default_model_is_healthy_and_what_is_planted_in_it_is_found(name):
    model = MODELS[name]
    inputs, targets = DATA[model.data]
    loss_fn = lambda params, batch: model.loss_fn(params["net"], batch)

    def diagnosis(params, rate=1e-3, is_raw=False):
        batch = (1 + inputs) * 100 if is_raw else inputs, targets
        params = params | {"rate": jnp.asarray(rate)}
        with jax.numpy_dtype_promotion("standard"):  # as flax counts on
            return diagnose(loss_fn, params, batch, optimizer=ADAM)

    for seed in range(100, 102):
        params = {"net": model.init(jax.random.key(seed))}
        found = diagnosis(params, model.rate)
        assert found.verdicts == ()
    missed = [
        (fault.name, fault.place)
        for fault in doctor_faults.planted(name, params, found.statistics.wiring)
        if not doctor_faults.is_found(
            fault, diagnosis(fault.change(params), fault.rate, fault.is_raw)
        )
    ]
    assert missed == []
