"""A checkpoint written over some devices is resumed and restored over others."""

import subprocess
import sys

import pytest

SHARDED = """
import sys, tempfile, warnings
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxopt_tut.optimizers import adam
from jaxopt_tut.training import Checkpoint, fit, restore
from tests.training.checkpoints.runs import digest

x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
data = (x, np.tanh(x.sum(1)))
loss_fn = lambda w, batch: jnp.mean((jnp.tanh(batch[0] @ w).sum(1) - batch[1]) ** 2)
mesh = lambda n: None if n is None else Mesh(np.array(jax.devices()[:n]), ("data",))

def run(devices, checkpoint=None, on_event=None):
    w = 0.1 * jnp.ones((8, 4))
    return fit(loss_fn, w, adam(0.05), data, batch_size=16, num_epochs=3, key=jax.random.key(0),
               mesh=mesh(devices), checkpoint=checkpoint, on_event=on_event, progress=False)

class Killed(Exception):
    pass

def killer(event):
    if event.kind == "checkpoint" and event.step == 6:
        raise Killed

counts = (4, 2, 1, None)
undisturbed = {devices: run(devices) for devices in counts}
for written in (4, 2, None):
    for read in counts:
        with tempfile.TemporaryDirectory() as folder:
            try:
                run(written, Checkpoint(folder, every_steps=3), killer)
            except Killed:
                pass
            resumed = run(read, folder)
            assert 6 <= resumed.resumed_from <= 9, resumed.resumed_from
            assert len(resumed.params.sharding.device_set) == (read or 1)
            if written == read:
                assert digest(resumed) == digest(undisturbed[read])
            # Sums over other numbers of devices round differently, and Adam divides by roots.
            for one, other in zip(jax.tree.leaves((resumed.params, resumed.history.steps)),
                                  jax.tree.leaves((undisturbed[4].params,
                                                   undisturbed[4].history.steps)), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
            like = jax.device_put(jnp.zeros((8, 4)), NamedSharding(mesh(4), P("data")))
            struct = jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=like.sharding)
            for wanted in (like, struct):
                found = restore(folder, {"params": wanted})["params"]
                assert found.sharding == like.sharding
                np.testing.assert_array_equal(found, resumed.params)
                assert {shard.data.shape for shard in found.addressable_shards} == {(2, 4)}
"""


@pytest.mark.slow
def test_a_checkpoint_of_four_devices_goes_on_over_one_two_or_four():
    run = [sys.executable, "-W", "error", "-c", SHARDED]
    subprocess.run(run, check=True)
