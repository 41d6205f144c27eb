"""Runs that are killed in tests; as a program, one life of such a run.

    python -m tests.training.checkpoints.runs KIND DIRECTORY LOG

takes up the run of DIRECTORY ("none": without checkpoints), appends its events to LOG, and prints
the digest of the result.
"""

import hashlib
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.optimizers import adam
from jaxopt_tut.training import Aux, Checkpoint, Streamed, csv_log, fit, patience

NUM_STEPS = 16
X = np.random.default_rng(0).normal(size=(16 * NUM_STEPS, 8)).astype(np.float32)
Y = np.tanh(X @ np.arange(8, dtype=np.float32) / 8)


def digest(result):
    """Return the SHA-256 of all that a run is."""
    result = (
        result.params, result.opt_state, result.model_state, result.best, result.best_model_state,
        result.history, np.float64(result.best_score), result.best_epoch, result.finite,
    )  # fmt: skip
    is_key = lambda leaf: jnp.issubdtype(getattr(leaf, "dtype", np.int64), jax.dtypes.prng_key)
    every = hashlib.sha256(str(jax.tree.structure(result)).encode())
    for leaf in jax.tree.leaves(result):
        array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        every.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return every.hexdigest()


def predict(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def loss_fn(params, batch):
    error = predict(params, batch[0]) - batch[1]
    return jnp.mean(error**2), {"largest": jnp.max(jnp.abs(error))}


def drawing(params, batch, state):
    """Drop inputs by a key in the state, and keep a running average."""
    key, now = jax.random.split(state["key"])
    keep = jax.random.bernoulli(now, 0.8, batch[0].shape).astype(jnp.float32)
    loss, metrics = loss_fn(params, (batch[0] * keep, batch[1]))
    return loss, Aux(metrics, {"key": key, "average": 0.9 * state["average"] + 0.1 * loss})


def evaluate(params, _model_state=None):
    return {"loss": np.square(np.asarray(predict(params, X)) - Y).mean(dtype=float)}


def kinds():
    """Return what each kind hands to `fit` beside what all do."""
    state = {"key": jax.random.key(5), "average": jnp.float32(0.0)}
    return {
        "resident": dict(num_epochs=24),
        "streamed": dict(num_epochs=24, dataset=Streamed((X, Y))),
        "whole": dict(
            num_epochs=400, accumulate=2, model_state=state, loss_fn=drawing,
            stop=patience(10, 1e-4),
        ),
    }  # fmt: skip


def live(kind, directory, log):
    """Take up a run and return its result."""
    given = dict(loss_fn=loss_fn, dataset=(X, Y)) | kinds()[kind]
    params = {
        "w": 0.3 * jax.random.normal(jax.random.key(1), (8, 16)),
        "v": 0.1 * jax.random.normal(jax.random.key(2), (16,)),
    }
    table = csv_log(f"{log}.csv")

    def on_event(event):
        table(event)
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps([event.kind, event.epoch, event.step]) + "\n")

    checkpoint = None if directory == "none" else Checkpoint(directory, every_steps=5)
    return fit(
        given.pop("loss_fn"), params, adam(0.02), given.pop("dataset"), batch_size=16,
        key=jax.random.key(0), evaluate=evaluate, checkpoint=checkpoint, on_event=on_event,
        progress=False, **given,
    )  # fmt: skip


if __name__ == "__main__":
    result = live(*sys.argv[1:4])
    print(result.message, digest(result), flush=True)
