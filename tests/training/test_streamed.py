"""Streamed data are the data on the device: the same batches, the same bits, and little memory."""

import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut import optimizers
from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.training import Aux, Batches, Streamed, evaluator, fit, shuffled
from jaxopt_tut.training.data import mapped, windows
from jaxopt_tut.training.data.columns import columns
from jaxopt_tut.training.data.prefetch import prefetched
from jaxopt_tut.training.data.sources import Resident, batch_at
from jaxopt_tut.training.data.streamed import StreamedSource
from jaxopt_tut.training.data.windows import Layout, grouped

SIZE = 45
ADAM = optimizers.adam(0.1)
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(SIZE, 5)).astype(np.float32)
Y = DRAW.integers(0, 3, SIZE)
IMAGES = DRAW.integers(0, 256, (SIZE, 28, 28)).astype(np.uint8)


class Rows:
    """As a file of HDF5: takes increasing indices only, and has no dtype of NumPy."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, indices):
        assert (np.diff(indices) > 0).all()
        rows = tuple(array[indices] for array in self.arrays)
        return rows if len(rows) > 1 else rows[0]


def on_disk(folder, array):
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


FORMS = {
    "arrays": lambda _: (X, Y),
    "memmap": lambda folder: (on_disk(folder, X), on_disk(folder, Y)),
    "views of a memmap": lambda folder: (
        on_disk(folder, np.concatenate([X, X]))[SIZE:], on_disk(folder, Y)[:],
    ),
    "rows of arrays": lambda _: (Rows(X), Rows(Y)),
    "rows of trees": lambda _: Rows(X, Y),
    "jax": lambda _: (jnp.asarray(X), jnp.asarray(Y)),
    "big endian": lambda _: (X.astype(">f4"), Y.astype(">i8")),
}  # fmt: skip


def nll(params, batch):
    x, y = batch
    log = jax.nn.log_softmax(x.reshape(len(x), -1) @ params["w"])
    picked = jnp.take_along_axis(log, y[:, None], axis=1)
    return -picked.mean(), {"accuracy": jnp.mean(log.argmax(1) == y)}


def start(width=5):
    return {"w": jnp.zeros((width, 3)), "none": None}


def run(data, loss_fn=nll, params=None, optimizer=None, **options):
    options = {"batch_size": 4, "num_epochs": 3, "key": jax.random.key(0), **options}
    params = start() if params is None else params
    return fit(loss_fn, params, optimizer or ADAM, data, progress=False, **options)


def assert_same_bits(one, other):
    assert one.message == other.message
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)  # NaN equal NaN here


@pytest.mark.parametrize("form", FORMS)
def test_has_the_bits_of_data_on_the_device(form, tmp_path):
    assert_same_bits(run(Streamed(FORMS[form](tmp_path))), run((X, Y)))


@pytest.mark.parametrize("room", [1, 1 << 20], ids=["a call a window", "many calls a window"])
@pytest.mark.parametrize("steps_per_call", [1, 3, 50])
@pytest.mark.parametrize("diagnose_every", [None, 5])
def test_has_the_bits_whatever_a_dispatch_holds(room, steps_per_call, diagnose_every, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_BYTES", room)
    options = {"steps_per_call": steps_per_call, "diagnose_every": diagnose_every}
    assert_same_bits(run(Streamed((X, Y)), **options), run((X, Y), **options))


@pytest.mark.parametrize("prefetch", [1, 5])
def test_images_are_normalised(prefetch, tmp_path):
    resident = Dataset(Split(IMAGES, Y.astype(np.int32)), Split(IMAGES, Y), 0.3, 0.4)
    on_file = resident._replace(train=Split(*(on_disk(tmp_path, part) for part in resident.train)))
    streamed = run(Streamed(on_file, prefetch=prefetch), params=start(784))
    assert_same_bits(streamed, run(resident, params=start(784)))


def test_doubles_stay_doubles():
    with jax.enable_x64(True):
        x = X.astype(np.float64) + 1e-12
        params = {"w": jnp.zeros((5, 3), jnp.float64)}
        streamed = run(Streamed((x, Y)), params=params)
        assert streamed.params["w"].dtype == jnp.float64
        assert_same_bits(streamed, run((x, Y), params=params))


@pytest.mark.parametrize("steps_per_call", [1, 4])
@pytest.mark.parametrize("at_fault", ["loss", "gradient"])
def test_an_epoch_that_cannot_be_taken_is_taken_again(at_fault, steps_per_call):
    """The parameter moves by 0.1 a step; from 2.05 on, at the 21st step, it is of no use."""

    def loss_fn(w, _, state):
        root = jnp.sqrt(jnp.maximum(2.05 - w, 0.0 if at_fault == "gradient" else -1.0))
        return 0 * root - w, Aux(model_state=state + 1)

    options = {"steps_per_call": steps_per_call, "model_state": jnp.int32(0)}
    one, other = (
        run(data, loss_fn, jnp.array(0.0), optax.sgd(0.1), **options) for data in (Streamed(X), X)
    )
    assert "in epoch 2, step 11" in one.message
    assert_same_bits(one, other)


@given(st.integers(0, 10), st.lists(st.integers(1, 10), max_size=3), st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_the_place_is_the_epoch_and_the_step(begin, others, epoch):
    """Windows from any step of any epoch on hold the batches of data on the device."""
    key, layout = jax.random.key(3), Layout(None, 4)
    stops = sorted({begin, 11, *(one for one in others if one > begin)})
    resident = Resident(windows.DeviceData((X, Y), None), key, 4)
    streamed = StreamedSource(columns((X, Y)), key, layout, 3, 2)
    assert streamed.num_steps == resident.num_steps == 11
    found = zip(
        stops, stops[1:], streamed.windows(epoch, stops), resident.windows(epoch, stops),
        strict=False,
    )  # fmt: skip
    seen = []
    for first, last, *both in found:
        for step in range(first, last):
            seen.append(step)
            one, other = (batch_at(window, np.int32(step)) for window in both)
            jax.tree.map(np.testing.assert_array_equal, one, other)
    assert seen == list(range(begin, 11))


@given(st.sets(st.integers(0, 60), min_size=2), st.integers(1, 20))
def test_windows_join_neighbouring_dispatches(stops, most):
    stops = sorted(stops)
    groups = grouped(stops, most)
    assert [stop for group in groups for stop in group[1:]] == stops[1:]
    assert [group[0] for group in groups] == [stops[0], *(group[-1] for group in groups[:-1])]
    for group, after in zip(groups, [*groups[1:], None], strict=True):
        assert group[-1] - group[0] <= most or len(group) == 2
        assert after is None or after[1] - group[0] > most


@given(st.integers(0, 20), st.integers(1, 5))
@settings(deadline=None)
def test_no_more_is_drawn_than_there_is_room_for(count, ahead):
    drawn = []
    items = prefetched((drawn.append(i) or i for i in range(count)), ahead)
    for taken, item in enumerate(items):
        assert item == taken
        assert len(drawn) <= taken + 1 + ahead
    assert drawn == list(range(count))


def threads():
    return [one for one in threading.enumerate() if "prefetch" in one.name]


class Failing(Rows):
    """Rows of which one cannot be read."""

    def __init__(self, error):
        super().__init__(X)
        self.error, self.calls = error, 0

    def __getitem__(self, indices):
        self.calls += 1
        if self.calls > 6:  # two looked at, and four windows
            raise self.error
        return super().__getitem__(indices)


def test_an_error_of_the_data_comes_up_with_its_place(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1)
    data = Streamed(Failing(OSError("the disk is gone")))
    with pytest.raises(OSError, match="the disk is gone") as caught:
        run(data, lambda p, x: jnp.sum(p["w"]) + jnp.sum(x))
    assert caught.value.__notes__ == ["fit was reading the batches of steps 5 to 5."]
    assert threads() == []


@pytest.mark.parametrize("how", ["whole", "loss", "evaluate", "Ctrl-C"])
def test_no_thread_outlives_a_run(how, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1)

    def evaluate(_):
        if how == "evaluate":
            raise RuntimeError("evaluate failed")
        return {"loss": 0.0}

    def loss_fn(params, batch):
        if how == "loss":
            raise RuntimeError("loss failed")
        return nll(params, batch)

    if how == "Ctrl-C":
        from jaxopt_tut.training import loop

        real, calls = loop.run_steps, []

        def interrupted(*args, **kwargs):
            calls.append(1)
            if len(calls) == 5:
                import signal

                signal.raise_signal(signal.SIGINT)
            return real(*args, **kwargs)

        monkeypatch.setattr(loop, "run_steps", interrupted)
    if how in ("loss", "evaluate"):
        with pytest.raises(RuntimeError, match=f"{how} failed"):
            run(Streamed((X, Y)), loss_fn, evaluate=evaluate)
    else:
        result = run(Streamed((X, Y)), loss_fn, evaluate=evaluate)
        expected = "Finished 3 epochs." if how == "whole" else "Interrupted in epoch 1, step 5."
        assert result.message == expected
    assert threads() == []


class Changing(Rows):
    """Rows that are others after the first two times."""

    def __init__(self, other):
        super().__init__(X)
        self.other, self.calls = other, 0

    def __getitem__(self, indices):
        self.calls += 1
        rows = super().__getitem__(indices)
        return rows if self.calls <= 2 else self.other(rows)


CHANGES = {
    "shape": (lambda rows: rows[:, :3], r"got float32\[44, 3\] after float32\[44, 5\] at"),
    "dtype": (lambda rows: rows.astype("f8"), r"got float64\[44, 5\] after float32\[44, 5\] at"),
    "count": (lambda rows: rows[:, None], r"got float32\[44, 1, 5\] after float32\[44, 5\] at"),
    "structure": (lambda rows: {"a": rows}, r"structure, got \['a'\] after \['\(root\)'\]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_rows_that_change_are_refused(change):
    other, message = CHANGES[change]
    with pytest.raises(ValueError, match="Streamed needs batches of one .*" + message):
        run(Streamed(Changing(other)), lambda p, x: jnp.sum(p["w"]) + jnp.sum(x))


class OneByOne:
    """As data sets of torch and grain are."""

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return X[int(index)]


class Flat(Rows):
    """Returns something else than rows."""

    def __getitem__(self, indices):
        return X[0]


REFUSED = {
    "one by one": (
        lambda: OneByOne(), TypeError,
        r"Streamed needs data that take an array of indices, data\[np.array\(\[0, 1\]\)\], got "
        r"TypeError of OneByOne at '\(root\)': Batches\(make_iterator, steps_per_epoch\) takes a",
    ),
    "no rows": (lambda: Flat(X), TypeError, r"got shape \[5\] of Flat at '\(root\)': Batches"),
    "nothing": (lambda: {"a": None}, ValueError, "at least one array, got none"),
    "no example": (lambda: X[:0], ValueError, "Streamed needs at least one example, got none"),
    "lengths": (
        lambda: (X, Rows(Y[:7])), ValueError,
        r"Streamed needs arrays with a common first axis, got \(45,\) at '0' and \(7,\) at '1'",
    ),
    "text": (lambda: "a file", TypeError, "Streamed needs arrays of numbers as dataset, got str"),
    "lists": (lambda: [1.0, 2.0], TypeError, r"got 1.0 at '0': of lists make arrays"),
    "objects": (lambda: np.array(["a"]), TypeError, "encode it as numbers"),
    "bytes": (lambda: Split(IMAGES, Y), TypeError, "Streamed needs a Dataset, which says how to"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rows_is_refused(name):
    make, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        Streamed(make())


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_prefetch_is_a_positive_integer(value, error):
    with pytest.raises(error, match=f"Streamed needs .*prefetch.*got prefetch={value}"):
        Streamed(X, prefetch=value)


def test_integers_that_would_come_out_as_others_are_refused():
    labels = Y.astype(np.int64)
    labels[-1] = 2**40
    with pytest.raises(ValueError, match=f"integers in the range of int32, got {2**40} at '1'"):
        run(Streamed((X, labels)), num_epochs=30)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"1 <= batch_size <= number of examples \(45\), got"):
        run(Streamed((X, Y)), batch_size=46)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_shorter_than_its_array_is_refused(when, tmp_path):
    """To read what is missing would kill the process."""
    path = tmp_path / "x.npy"
    np.save(path, np.ones((4096, 5), np.float32))
    size = path.stat().st_size
    x = np.load(path, mmap_mode="r")
    message = f"a file as long as its array, got x.npy of 8192 bytes for {size} at 'x'"

    def train(data):
        os.truncate(path, 8192)
        return run(data(), lambda p, batch: jnp.sum(p["w"]) + jnp.sum(batch["x"]))

    made = Streamed({"x": x})
    with pytest.raises(ValueError, match=message):
        train((lambda: made) if when == "during" else (lambda: Streamed({"x": x})))


@pytest.mark.parametrize("mode", ["c", "r+"])
def test_pages_that_were_written_to_are_kept(mode, monkeypatch, tmp_path):
    """Those of a private mapping are nowhere else."""
    monkeypatch.setattr(mapped, "MAPPED_BYTES", -1)
    np.save(tmp_path / "x.npy", np.zeros((50, 1000), np.float32))
    x = np.load(tmp_path / "x.npy", mmap_mode=mode)
    x[:] = np.arange(50)[:, None]
    table = columns(x)
    for order in (np.arange(50), np.arange(50)[::-3]):
        found = table.rows(order)
        np.testing.assert_array_equal(found, np.broadcast_to(order[:, None], found.shape))


BOUND = 64 << 20
MEMORY = """
import resource, sys
import jax, jax.numpy as jnp, numpy as np, optax, psutil
from jaxopt_tut.training import Streamed, fit
x = np.load(sys.argv[1], mmap_mode="r")
rows = int(sys.argv[2])
loss_fn = lambda w, batch: jnp.mean((batch[:, :8].astype(jnp.float32) @ w - 1) ** 2)
run = lambda data: fit(loss_fn, jnp.zeros(8), optax.sgd(1e-6), Streamed(data), batch_size=64,
                       num_epochs=1, key=jax.random.key(0), progress=False)
process = psutil.Process()
run(x[:64 * 20])
before, most = process.memory_info().rss, 0
real = np.take
def take(*args, **kwargs):
    global most
    out = real(*args, **kwargs)
    most = max(most, process.memory_info().rss)
    return out
np.take = take  # by which rows are read
result = run(x)
assert most and result.history.steps["loss"].shape == (rows // 64,), result.message
print("grew by", most - before)
"""


@pytest.mark.slow
def test_the_process_stays_small_while_the_data_are_large(tmp_path):
    row = 4096
    rows = 8 * BOUND // row
    path = tmp_path / "x.npy"
    x = np.lib.format.open_memmap(path, "w+", np.uint8, (rows, row))
    x[:, :8] = 1
    del x
    code = [sys.executable, "-c", MEMORY, str(path), str(rows)]
    out = subprocess.run(code, check=True, capture_output=True, text=True).stdout
    assert int(out.split()[-1]) <= BOUND


@pytest.mark.parametrize("make", [lambda: Streamed(X), lambda: Batches(lambda: iter([X]), 1)])
@pytest.mark.parametrize("caller", ["evaluator", "shuffled", "Streamed"])
def test_what_needs_data_on_the_device_says_so(caller, make):
    users = {
        "evaluator": lambda data: evaluator(lambda _, b: {"x": jnp.mean(b)}, data),
        "shuffled": lambda data: shuffled(data, batch_size=2, num_epochs=1, key=jax.random.key(0)),
        "Streamed": Streamed,
    }
    data = make()
    message = f"{caller} needs data that fit on the device, got {type(data).__name__}: they are"
    with pytest.raises(TypeError, match=message):
        users[caller](data)
