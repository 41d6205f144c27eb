"""Runs of `fit` over some devices, of this process or of two: what the tests of them compare.

    python sharded_runs.py OUT NUM_DEVICES NAME[,NAME...] [PORT PROCESS]

writes to OUT, per name, the bytes of the result and what lies where. Gloo prints on stdout.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

OUT, NUM_DEVICES, NAMES = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
PORT, PROCESS = (sys.argv[4], int(sys.argv[5])) if len(sys.argv) > 4 else (None, 0)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)
if PORT is not None:
    jax.distributed.initialize(f"127.0.0.1:{PORT}", 2, PROCESS)

from jaxopt_tut import optimizers  # noqa: E402
from jaxopt_tut.models import mlp  # noqa: E402
from jaxopt_tut.training import Batches, Streamed, by_path, evaluator, fit, fsdp  # noqa: E402

WIDTHS = (784, 512, 256, 256, 128, 10)
BATCH, STEPS = 32, 40
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(STEPS * BATCH // 2, 784)).astype(np.float32)
Y = DRAW.integers(0, 10, len(X)).astype(np.int32)


def nll(params, batch):
    x, y = batch
    log = jax.nn.log_softmax(mlp.apply(params, x))
    return -jnp.mean(jnp.take_along_axis(log, y[:, None], axis=1))


class Rows:
    """Tells which rows it was asked for."""

    def __init__(self, array):
        self.array, self.asked = array, []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, indices):
        self.asked.append(len(indices))
        return self.array[indices]


events = []
params = mlp.init(jax.random.key(1), WIDTHS)
optimizer = optimizers.adam(1e-3)


def run(data=(X, Y), **options):
    options = {"batch_size": BATCH, "num_epochs": 2, "key": jax.random.key(0), **options}
    return fit(nll, params, optimizer, data, progress=True, on_event=events.append, **options)


def own_batches(epoch):
    """The rows of this process, of the batches that data on the device would have."""
    del epoch
    rows = np.arange(len(X)).reshape(-1, BATCH)
    if PORT is not None:
        rows = np.split(rows, 2, axis=1)[PROCESS]
    return ((X[some], Y[some]) for some in rows)


def mesh():
    return jax.make_mesh((jax.device_count(),), ("data",))


rows = Rows(X)
RUNS = {
    "alone": lambda: run(),
    "replicated": lambda: run(mesh=mesh()),
    "fsdp": lambda: run(shard=fsdp(mesh())),
    "fsdp loop": lambda: run(shard=fsdp(mesh()), steps_per_call=7),
    "streamed": lambda: run(Streamed((X, Y)), mesh=mesh()),
    "streamed fsdp": lambda: run(Streamed((rows, Y)), shard=fsdp(mesh())),
    "batches": lambda: run(Batches(own_batches, STEPS // 2), batch_size=None, mesh=mesh()),
    "by path": lambda: run(
        shard=by_path(mesh(), {"*/kernel": PartitionSpec(None, None), "0/*": PartitionSpec()})
    ),
    "tensor": lambda: run(
        shard=by_path(
            jax.make_mesh((1, jax.device_count()), ("data", "model")),
            {"[0-3]/kernel": PartitionSpec(None, "model"), "[0-3]/bias": PartitionSpec("model")},
        )
    ),
    "evaluated": lambda: run(
        shard=fsdp(mesh()),
        evaluate=evaluator(lambda p, b: {"loss": nll(p, b)}, (X, Y), batch_size=320),
    ),
}


def whole(leaf):
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
    return np.asarray(jax.jit(lambda x: x, out_shardings=everywhere)(leaf))


def kept(tree):
    """Bytes on one device over all there are."""
    leaves = jax.tree.leaves(tree)
    here = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    return here / sum(leaf.nbytes for leaf in leaves)


for name in NAMES:
    events.clear()
    result = RUNS[name]()
    state = (result.params, result.opt_state)
    arrays = [whole(leaf) for leaf in jax.tree.leaves(state)]
    np.savez(OUT / f"{name}-{PROCESS}.npz", *arrays, losses=result.history.steps["loss"],
             validation=result.history.validation.get("loss", np.zeros(0)))  # fmt: skip
    report = {
        "message": result.message,
        "kept": kept(state),
        "num_events": len(events),
        "asked": sum(rows.asked),
        "specs": sorted(
            {
                str(tuple(getattr(leaf.sharding, "spec", ())))
                for leaf in jax.tree.leaves(result.params)
            }
        ),
    }
    (OUT / f"{name}-{PROCESS}.json").write_text(json.dumps(report))
