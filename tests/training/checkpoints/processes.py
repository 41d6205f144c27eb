"""A run of two processes that a signal to one of them ends, and that is taken up again.

python processes.py FOLDER OUT NUM_DEVICES [PORT PROCESS]
"""

import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

FOLDER, OUT, NUM_DEVICES = sys.argv[1], sys.argv[2], int(sys.argv[3])
PORT, PROCESS = (sys.argv[4], int(sys.argv[5])) if len(sys.argv) > 4 else (None, 0)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)
if PORT is not None:
    jax.distributed.initialize(f"127.0.0.1:{PORT}", 2, PROCESS)

from jax.experimental import multihost_utils  # noqa: E402

from jaxopt_tut.optimizers import adam  # noqa: E402
from jaxopt_tut.training import Checkpoint, fit, fsdp, restore  # noqa: E402

X = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
Y = np.tanh(X.sum(1))
mesh = jax.make_mesh((2,), ("data",))


def loss_fn(w, batch):
    return jnp.mean((jnp.tanh(batch[0] @ w).sum(1) - batch[1]) ** 2)


def run(num_epochs, *, hit=False, **options):
    calls = []

    def evaluate(_w):
        calls.append(1)
        if hit and len(calls) == 2 and PROCESS == 1:
            signal.raise_signal(signal.SIGUSR1)
        return {"accuracy": len(calls) % 3}

    return fit(
        loss_fn, 0.1 * jnp.ones((8, 4)), ADAM, (X, Y), batch_size=16, num_epochs=num_epochs,
        key=jax.random.key(0), shard=fsdp(mesh), evaluate=evaluate, progress=False, **options,
    )  # fmt: skip


def gathered(array):
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


ADAM = adam(0.05)
undisturbed = run(6)
options = Checkpoint(FOLDER, every_steps=3, keep=9, signals=(signal.SIGUSR1,))
if PORT is not None:
    code = None
    try:
        run(5, hit=True, checkpoint=options)
    except SystemExit as ended:
        code = ended.code
    assert code == 128 + signal.SIGUSR1, code
    resumed = run(5, checkpoint=options)
    assert resumed.resumed_from is not None
    assert 8 <= resumed.resumed_from < 20, resumed.resumed_from
    assert run(5, checkpoint=options).resumed_from == 20
resumed = run(6, checkpoint=options)
assert resumed.resumed_from == 20, resumed.resumed_from
for one, other in zip(
    jax.tree.leaves((resumed.params, resumed.opt_state, resumed.history.steps)),
    jax.tree.leaves((undisturbed.params, undisturbed.opt_state, undisturbed.history.steps)),
    strict=True,
):
    array = gathered if isinstance(one, jax.Array) else np.asarray
    np.testing.assert_array_equal(array(one), array(other))
found = restore(FOLDER, {"params": resumed.params})["params"]
assert found.sharding == resumed.params.sharding
np.testing.assert_array_equal(gathered(found), gathered(resumed.params))
np.save(f"{OUT}{PROCESS}.npy", gathered(resumed.params))
