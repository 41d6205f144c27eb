"""`fit` over four devices gives what one device gives, whatever the axes of the mesh are."""

import subprocess
import sys

import pytest

SHARDED = """
import contextlib
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import AxisType
from jaxopt_tut import optimizers
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Probe, evaluator, fit

x = jnp.linspace(-1.0, 1.0, 64)[:, None] * jnp.ones((1, 3))
data = (x, x @ jnp.array([1.0, 2.0, 3.0]), np.arange(64) % 3)

def loss_fn(params, batch):
    x, y, labels = batch  # a product, a gather and a reshape, which Explicit axes refuse
    out = mlp.apply(params["net"], x)
    picked = jnp.take_along_axis(out, labels[:, None], axis=1).reshape(-1)
    return jnp.mean((picked + x @ params["w"] - y) ** 2), {"mean": jnp.mean(out)}

metrics = lambda params, batch: {"loss": loss_fn(params, batch)[0]}
params = {"net": mlp.init(jax.random.key(1), (3, 4, 3)), "w": jnp.zeros(3)}
optimizer = optimizers.adam(0.1)
probes = {"w": Probe(lambda start: start.params["w"], lambda state, now: (
    now.params["w"], {"moved": now.params["w"] - state, "sum": now.params["w"] @ here}))}
def run(params=params, **options):
    options = {"num_epochs": 3, "evaluate": evaluator(metrics, data, batch_size=24), **options}
    return fit(loss_fn, params, optimizer, data, batch_size=16, key=jax.random.key(0),
               progress=False, **options)
close = lambda a, b: jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4,
                                                                          atol=1e-5), a, b)
here = jnp.arange(3.0)
alone = run(diagnose_every=5, probes=probes, probe_every=2)
more = run(alone.params, opt_state=alone.opt_state, num_epochs=1)
meshes = {
    "default": jax.make_mesh((4,), ("data",)),
    "explicit": jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,)),
    "auto": jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,)),
    "two axes": jax.make_mesh((2, 2), ("data", "model")),
    "mixed": jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto, AxisType.Explicit)),
}
for name, mesh in meshes.items():
    with jax.set_mesh(mesh) if name == "explicit" else contextlib.nullcontext():
        here = jnp.arange(3.0)
        together = run(mesh=mesh, diagnose_every=5, probes=probes, probe_every=2,
                       steps_per_call=3 if name == "auto" else None)
    # Means over four devices round differently from a mean over one, and Adam divides by roots.
    close(together.params, alone.params)
    close(together.history.steps, alone.history.steps)
    close(together.history.validation, alone.history.validation)
    assert list(together.history.diagnoses) == list(alone.history.diagnoses) == [0, 5, 10]
    for step, diagnosis in together.history.diagnoses.items():
        close(diagnosis.statistics.loss, alone.history.diagnoses[step].statistics.loss)
    assert together.history.probe_steps.tolist() == [0, 2, 4, 6, 8, 10, 12]
    close(together.history.probes, alone.history.probes)
    assert together.params["w"].sharding.is_fully_replicated
    assert len(together.params["w"].sharding.device_set) == 4
    if name in ("default", "two axes"):
        go_on = {"opt_state": together.opt_state, "num_epochs": 1}
        close(run(together.params, mesh=mesh, **go_on).params, more.params)
        close(run(together.params, **go_on).params, more.params)  # where they lie
for steps_per_call in (1, 3):  # micro-batches of 8 over 4 devices
    together = run(mesh=meshes["default"], accumulate=2, steps_per_call=steps_per_call)
    close(together.params, alone.params)
    close(together.history.steps, alone.history.steps)
    assert together.params["w"].sharding.is_fully_replicated
try:
    run(mesh=meshes["default"], accumulate=8)
except ValueError as error:
    assert str(error) == ("fit needs micro-batches divisible by the mesh's first axis (4), "
                          "got batch_size=16 and accumulate=8.")
else:
    raise AssertionError("indivisible micro-batches were accepted")
try:
    fit(loss_fn, params, optimizer, data, batch_size=6, num_epochs=1, key=jax.random.key(0),
        mesh=meshes["default"])
except ValueError as error:
    assert "divisible by the mesh's first axis (4), got batch_size=6" in str(error)
else:
    raise AssertionError("an indivisible batch was accepted")
"""


@pytest.mark.slow
def test_meshes_of_any_axes_give_the_same_parameters():
    subprocess.run([sys.executable, "-c", SHARDED], check=True)
