"""Devices, processes, workers and kills change no bit of a sweep. Children are on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]

RUN = """
import os, signal, sys
import jax
jax.config.update("jax_platforms", "cpu")
import jax.numpy as jnp, numpy as np, optax
from jaxopt_tut import optimizers
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Map, Vmap, sweep, train

NUM_STEPS = 12

def run(h, key):
    x = jax.random.normal(jax.random.key(1), (4, 8, 6))
    batches = x, jnp.argmax(x[..., :3], axis=-1)
    def loss_fn(params, batch):
        logits = mlp.apply(params, batch[0])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))
    optimizer = optimizers.adam(h["rate"])
    params = mlp.init(key, (6, 5, 3))
    after = train(loss_fn, params, optimizer, batches, num_steps=NUM_STEPS)
    return {"loss": after.losses, "params": after.params}

configurations = {"rate": np.logspace(-3, 0, 5, dtype=np.float32)}
STRATEGIES = {"vmap": Vmap(), "map": Map(), "map2": Map(lanes=2)}

def swept(run=run, **options):
    keys = jax.random.split(jax.random.key(0), 3)
    return sweep(run, configurations, keys=keys, **{"chunk": 4, **options})

def save(path, result):
    np.savez(path, *map(np.asarray, jax.tree.leaves(result.results)))
"""

ALONE = (
    RUN
    + """
if __name__ == "__main__":
    for name, strategy in STRATEGIES.items():
        save(f"{sys.argv[1]}/{name}.npz", swept(strategy=strategy))
"""
)


def start(tmp_path, code, *args, **env):
    script = tmp_path / f"script{len(list(tmp_path.glob('*.py')))}.py"
    script.write_text(code)
    return subprocess.Popen(
        [sys.executable, script, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.DEVNULL,
    )


def finish(process):
    try:
        assert process.wait(timeout=200) == 0
    finally:
        process.kill()  # by its own id, if it is still there


def read(path):
    with np.load(path) as stored:
        return [stored[name].tobytes() for name in stored]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with one device: what all others have to give."""
    folder = tmp_path_factory.mktemp("alone")
    finish(start(folder, ALONE, folder))
    return {name: read(folder / f"{name}.npz") for name in ("vmap", "map", "map2")}


DEVICES = (
    RUN
    + """
jax.config.update("jax_num_cpu_devices", 2)
if __name__ == "__main__":
    mesh = jax.make_mesh((2,), ("runs",))
    square = jax.make_mesh((1, 2), ("runs", "others"))
    for name, strategy in STRATEGIES.items():
        save(f"{sys.argv[1]}/{name}.npz", swept(strategy=strategy, mesh=mesh))
    save(f"{sys.argv[1]}/one.npz", swept(strategy=Vmap()))
    save(f"{sys.argv[1]}/square.npz", swept(strategy=Vmap(), mesh=square))
    assert swept(mesh=mesh, chunk=None).timings
"""
)


@pytest.mark.slow
def test_two_devices_give_the_bits_of_one(tmp_path, alone):
    finish(start(tmp_path, DEVICES, tmp_path))
    for name, expected in alone.items():
        assert read(tmp_path / f"{name}.npz") == expected, name
    assert read(tmp_path / "one.npz") == read(tmp_path / "square.npz") == alone["vmap"]
    assert alone["vmap"] != alone["map"]  # or the test could not tell chunks apart


PROCESSES = (
    RUN
    + """
if __name__ == "__main__":
    folder, port, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    mesh = jax.make_mesh((2,), ("runs",))
    for name, strategy in STRATEGIES.items():
        result = swept(strategy=strategy, mesh=mesh, directory=f"{folder}/{name}")
        again = swept(mesh=mesh, chunk=None, directory=f"{folder}/{name}")
        assert again.num_restored == 4 and again.strategy == strategy, again
        save(f"{folder}/{name}-{index}.npz", result)
        save(f"{folder}/{name}-{index}-again.npz", again)
    chosen = swept(mesh=mesh, chunk=None)
    open(f"{folder}/{index}.txt", "w").write(repr((chosen.strategy, chosen.chunk)))
"""
)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(tmp_path, alone):
    port = free_port()
    for child in [start(tmp_path, PROCESSES, tmp_path, port, index) for index in range(2)]:
        finish(child)
    for name, expected in alone.items():
        for end in ("0", "1", "0-again", "1-again"):
            assert read(tmp_path / f"{name}-{end}.npz") == expected, (name, end)
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()


POOL = (
    RUN
    + """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing, warnings

FOLDER = sys.argv[1]

def dies_once(h, key):
    def maybe(rate):
        if rate == configurations["rate"][3]:  # of the third chunk
            os.kill(os.getpid(), signal.SIGKILL)
        return rate
    rate = jax.pure_callback(maybe, jax.ShapeDtypeStruct((), jnp.float32), h["rate"])
    return rate + jax.random.normal(key)

def short(h, key):
    return h["rate"] + jax.random.normal(key)

class Dying:
    # a pool of one worker, which dies of the third chunk
    def __init__(self, pool):
        self.pool, self.num = pool, 0

    def submit(self, job, *args):
        self.num += 1
        return self.pool.submit(os._exit, 9) if self.num == 3 else self.pool.submit(job, *args)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        for name in ("vmap", "map"):
            result = swept(strategy=STRATEGIES[name], executor=pool)
            assert not result.errors and result.done.all()
            save(f"{FOLDER}/{name}.npz", result)
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        lost = swept(dies_once, strategy=Map(), executor=pool).errors
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        with warnings.catch_warnings(record=True) as w:
            warnings.simplefilter("always")
            executor, kept = Dying(pool), f"{FOLDER}/kept"
            result = swept(short, strategy=Map(), executor=executor, directory=kept)
    assert sorted(lost) == sorted(result.errors), lost
    told = "7 of 15 pairs are missing, since 2 of 4 chunks failed: chunk 2 by BrokenProcessPool"
    assert told in result.messages[-1] and any(told in str(one.message) for one in w)
    assert sorted(result.errors) == [2, 3], result.errors
    assert "BrokenProcessPool" in result.errors[2]
    done = result.done.reshape(-1)
    assert done.tolist() == [True] * 8 + [False] * 7
    assert np.isnan(result.results.reshape(-1)[~done]).all()
    assert np.isfinite(result.results.reshape(-1)[done]).all()
    assert not result.finite.reshape(-1)[8:].any()
    assert sorted(os.listdir(f"{FOLDER}/kept"))[:2] == ["chunk-000000.npz", "chunk-000001.npz"]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            swept(executor=pool, strategy=Map())
        except ValueError as error:
            assert "sweep needs a pool of processes that are spawned" in str(error)
        else:
            raise AssertionError("a pool that forks was accepted")
"""
)


@pytest.mark.slow
def test_a_pool_gives_the_same_bits_and_a_dead_worker_costs_its_chunks(tmp_path, alone):
    finish(start(tmp_path, POOL, tmp_path))
    for name in ("vmap", "map"):
        assert read(tmp_path / f"{name}.npz") == alone[name], name


CLUSTER = (
    RUN
    + """
FOLDER = sys.argv[1]

def dies_once(h, key):
    if os.getpid() != int(os.environ["SWEEP_PARENT"]):  # while it is traced, in one worker
        try:
            open(f"{FOLDER}/dead", "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    return run(h, key)

if __name__ == "__main__":
    os.environ["SWEEP_PARENT"] = str(os.getpid())
    from distributed import Client, LocalCluster
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1"}
    with LocalCluster(**options, dashboard_address=None) as cluster, Client(cluster) as client:
        for name in ("vmap", "map"):
            with client.get_executor(retries=2) as executor:
                result = swept(dies_once if name == "vmap" else run, strategy=STRATEGIES[name],
                               executor=executor)
            assert not result.errors and result.done.all(), result.errors
            save(f"{FOLDER}/{name}.npz", result)
    assert os.path.exists(f"{FOLDER}/dead")
"""
)


@pytest.mark.slow
def test_a_cluster_finishes_all_chunks_when_a_worker_is_killed(tmp_path, alone):
    finish(start(tmp_path, CLUSTER, tmp_path))
    for name in ("vmap", "map"):
        assert read(tmp_path / f"{name}.npz") == alone[name], name


LONG = (
    RUN.replace("NUM_STEPS = 12", "NUM_STEPS = 20_000")
    + """
if __name__ == "__main__":
    name = sys.argv[2]
    result = swept(strategy=STRATEGIES[name], chunk=2, directory=sys.argv[1])
    save(sys.argv[3], result)
    open(sys.argv[3] + ".txt", "w").write(str(result.num_restored))
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vmap", "map"])
def test_a_killed_sweep_goes_on_with_the_same_bits(tmp_path, name):
    folder = tmp_path / "kept"
    finish(start(tmp_path, LONG, tmp_path / "undisturbed", name, tmp_path / "whole.npz"))
    for wanted in (1, 3):
        child = start(tmp_path, LONG, folder, name, tmp_path / "never.npz")
        deadline = time.monotonic() + 100
        while len(list(folder.glob("*.npz"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)  # by its own id
        assert child.wait() == -signal.SIGKILL
    finish(start(tmp_path, LONG, folder, name, tmp_path / "resumed.npz"))
    assert 3 <= int((tmp_path / "resumed.npz.txt").read_text()) < 8
    assert read(tmp_path / "resumed.npz") == read(tmp_path / "whole.npz")
