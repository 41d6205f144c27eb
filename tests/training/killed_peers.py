"""A run of two processes, one of which may kill itself; see `test_processes.py`.

python killed_peers.py OUT VICTIM FOLDER PORT PROCESS
"""

import json
import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

OUT, VICTIM, FOLDER, PORT, PROCESS = Path(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 1)
jax.distributed.initialize(f"127.0.0.1:{PORT}", 2, PROCESS)

from jaxopt_tut import optimizers  # noqa: E402
from jaxopt_tut.training import Checkpoint, fit, fsdp  # noqa: E402
from jaxopt_tut.training.checkpoints.processes import whole  # noqa: E402

X = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
calls = []


def evaluate(params):
    calls.append(1)
    if len(calls) == 4 and str(PROCESS) == VICTIM:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"loss": jnp.sum(params)}


report = {}
try:
    result = fit(
        lambda w, batch: jnp.mean((batch @ w - 1) ** 2), jnp.zeros(4), optimizers.adam(0.01), X,
        batch_size=8, num_epochs=6, key=jax.random.key(0), progress=False, evaluate=evaluate,
        shard=fsdp(jax.make_mesh((2,), ("data",))), checkpoint=Checkpoint(FOLDER, every_steps=10),
    )  # fmt: skip
    state = whole((result.params, result.opt_state, result.best))
    report = {
        "resumed_from": result.resumed_from,
        "state": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(state)],
        "losses": result.history.steps["loss"].tolist(),
        "validation": result.history.validation["loss"].tolist(),
    }
except RuntimeError as error:
    report = {"error": str(error)}
(OUT / f"{PROCESS}.json").write_text(json.dumps(report))
os._exit(0)  # of those who have lost another one, JAX waits for it, and aborts them
