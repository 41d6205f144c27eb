"""Batches of an iterator are trained on as they are, wherever it comes from."""

import itertools
import json
import threading

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.training import Batches, fit
from jaxopt_tut.training.data import epoch_order, windows
from jaxopt_tut.training.data.batches import BatchesSource
from jaxopt_tut.training.data.sources import batch_at

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
SGD = optax.sgd(0.1)
STEPS = 6


def square(w, batch):
    return jnp.mean((batch @ w - 1.0) ** 2)


def run(data, loss_fn=square, params=None, **options):
    options = {"num_epochs": 3, "key": jax.random.key(0), "progress": False, **options}
    return fit(loss_fn, jnp.zeros(3) if params is None else params, SGD, data, **options)


def batches_of(epoch):
    """Batches of epoch 0, 1, ...: each is another one."""
    for step in range(STEPS):
        yield X[np.arange(4) * STEPS + step] + np.float32(epoch)


class Stateful:
    """An iterator over all epochs that says where it is, as grain's do."""

    def __init__(self, at=0):
        self.at = at

    def __iter__(self):
        return self

    def __next__(self):
        epoch, step = divmod(self.at, STEPS)
        self.at += 1
        return next(itertools.islice(batches_of(epoch), step, None))

    def get_state(self):
        return {"at": self.at, "more": b"\x00\xff"}

    def set_state(self, state):
        assert state["more"] == b"\x00\xff"
        self.at = state["at"]


class Opaque(Stateful):
    """One whose state cannot be written down."""

    def get_state(self):
        return object()


KINDS = {
    "of an epoch": batches_of,
    "endless": lambda: itertools.chain.from_iterable(map(batches_of, itertools.count())),
    "with a state": Stateful,
    "with a state that is opaque": Opaque,
    "a list": lambda epoch: list(batches_of(epoch)),
}


def plain_losses(num_epochs=3):
    """As the documentation of optax has it."""
    w, state, losses = jnp.zeros(3), SGD.init(jnp.zeros(3)), []
    for batch in itertools.chain.from_iterable(map(batches_of, range(num_epochs))):
        loss, grads = jax.value_and_grad(square)(w, batch)
        updates, state = SGD.update(grads, state)
        w = optax.apply_updates(w, updates)
        losses.append(loss)
    return np.asarray(losses), w


@pytest.mark.parametrize("steps_per_call", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_is_the_plain_loop(kind, steps_per_call):
    losses, w = plain_losses()
    result = run(Batches(KINDS[kind], STEPS), steps_per_call=steps_per_call)
    assert result.message == "Finished 3 epochs."
    # eighteen steps, each of some ten roundings
    rounding = 18 * 10 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(result.history.steps["loss"], losses, rtol=rounding)
    np.testing.assert_allclose(result.params, w, rtol=rounding)


@pytest.mark.parametrize("room", [1, 1 << 20])
def test_has_the_bits_of_the_same_batches_on_the_device(room, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_BYTES", room)
    _, key = jax.random.split(jax.random.key(0))

    def make_iterator(epoch):
        return (X[rows] for rows in np.asarray(epoch_order(key, np.uint32(epoch), 24, 4)))

    one, other = run(Batches(make_iterator, STEPS)), run(X, batch_size=4)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_iterator_that_ends_where_an_epoch_does_is_made_anew():
    made = []
    result = run(Batches(lambda: made.append(1) or batches_of(0), STEPS))
    again = run(Batches(lambda _epoch: batches_of(0), STEPS))
    assert len(made) == 3
    np.testing.assert_array_equal(result.params, again.params)


def seen(source, epoch, stops):
    found = zip(stops, stops[1:], source.windows(epoch, stops), strict=False)
    return [
        batch_at(window, np.int32(step)) for a, b, window in found for step in range(a, b)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("step", [0, 1, 5])
def test_goes_on_from_any_place(kind, epoch, step, monkeypatch):
    """In another process, by what was written down, or by drawing all before."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1)
    first = BatchesSource(Batches(KINDS[kind], STEPS))
    for one in range(epoch):
        seen(first, one, [0, STEPS])
    ours = seen(first, epoch, range(STEPS + 1))
    position = first.position(epoch * STEPS + step)
    assert (position is not None) == (kind == "with a state")
    second = BatchesSource(Batches(KINDS[kind], STEPS))
    second.learn(position and json.loads(json.dumps(position)))
    theirs = seen(second, epoch, range(step, STEPS + 1))
    np.testing.assert_array_equal(theirs, ours[step:])
    np.testing.assert_array_equal(theirs, list(batches_of(epoch))[step:])


def test_a_state_saves_drawing_what_is_past():
    drawn = []

    class Counting(Stateful):
        def __next__(self):
            drawn.append(self.at)
            return super().__next__()

    first = BatchesSource(Batches(Counting, STEPS))
    seen(first, 0, [0, STEPS])
    seen(first, 1, [0, 2])
    position = first.position(STEPS + 2)
    second = BatchesSource(Batches(Counting, STEPS))
    second.learn(position)
    drawn.clear()
    seen(second, 1, [2, STEPS])
    assert drawn == list(range(STEPS + 2, 2 * STEPS))


@pytest.mark.parametrize("kind", ["of an epoch", "endless", "with a state"])
@pytest.mark.parametrize("at_fault", ["loss", "gradient"])
@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_a_stop_is_explained_as_for_data_on_the_device(kind, at_fault, steps_per_call):
    """The parameter moves by 0.1 a step; from 0.85 on, at the ninth step, it is of no use."""

    def loss_fn(params, batch):
        root = jnp.sqrt(jnp.maximum(0.85 - params["w"], 0.0 if at_fault == "gradient" else -1.0))
        return 0 * root - params["w"] + 0 * jnp.sum(batch)

    params, options = {"w": jnp.array(0.0)}, {"steps_per_call": steps_per_call}
    one = run(Batches(KINDS[kind], STEPS), loss_fn, params, **options)
    other = run(X, loss_fn, params, batch_size=4, **options)
    assert "in epoch 2, step 4" in one.message
    assert one.message == other.message
    np.testing.assert_array_equal(one.params["w"], other.params["w"])
    np.testing.assert_array_equal(one.history.steps["loss"], other.history.steps["loss"])


def grain_batches(epoch):
    data = grain.MapDataset.source(X).seed(epoch).shuffle().batch(4, drop_remainder=True)
    return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=0)))


def test_trains_on_a_loader_of_grain_and_goes_on_by_its_state():
    expected = [list(grain_batches(epoch)) for epoch in range(2)]
    result = run(Batches(grain_batches, STEPS), num_epochs=2)
    assert result.history.steps["loss"].shape == (12,)
    source = BatchesSource(Batches(lambda: grain_batches(0), STEPS))
    seen(source, 0, [0, 3])
    other = BatchesSource(Batches(lambda: grain_batches(0), STEPS))
    other.learn(source.position(3))
    np.testing.assert_array_equal(seen(other, 0, [3, STEPS]), expected[0][3:])


def ends_early(epoch):
    return itertools.islice(batches_of(epoch), STEPS if epoch == 0 else 2)


def changing(other):
    def make_iterator(epoch):
        for step, batch in enumerate(batches_of(epoch)):
            yield other(batch) if (epoch, step) == (1, 2) else batch

    return make_iterator


FAULTS = {
    "ends": (ends_early, "Batches needs 6 batches an epoch, got an iterator that ended after 2 in "
             "epoch 2"),
    "ends in the first": (lambda _epoch: iter(()), "ended after 0 in epoch 1"),
    "ends within an epoch": (lambda: itertools.islice(itertools.cycle(batches_of(0)), 8),
                             "ended after 2 in epoch 2"),
    "shape": (changing(lambda b: b[:3]),
              r"Batches needs batches of one shape and dtype, got float32\[3, 3\] after "
              r"float32\[4, 3\] at '\(root\)'"),
    "dtype": (changing(lambda b: b.astype(np.float64)), r"got float64\[4, 3\] after float32"),
    "structure": (changing(lambda b: (b, b)), "of one structure, got .* after"),
    "scalars": (lambda _epoch: iter([{"a": X, "b": 1.0}]), "got 1.0 at 'b'"),
    "lengths": (lambda _epoch: iter([(X, X[:2])]), r"got \(24,\) at '0' and \(2,\) at '1'"),
    "text": (lambda _epoch: iter([np.array(["a"])]), "encode it as numbers"),
    "no iterator": (lambda _epoch: 5, "Batches needs make_iterator to return an iterator, got int"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_iterators_that_do_not_do_are_refused(name):
    make_iterator, message = FAULTS[name]
    with pytest.raises((ValueError, TypeError), match=message):
        run(Batches(make_iterator, STEPS))
    assert not [one for one in threading.enumerate() if "prefetch" in one.name]


def failing(epoch):
    yield from itertools.islice(batches_of(epoch), 3)
    raise OSError("the store is gone")


def test_an_error_of_the_iterator_comes_up_with_its_place():
    with pytest.raises(OSError, match="the store is gone") as caught:
        run(Batches(failing, STEPS))
    assert caught.value.__notes__ == ["fit was reading the batches of steps 1 to 6."]


BAD = {
    "no function": (lambda: Batches([X], 6), TypeError, "a function as make_iterator, got list"),
    "two": (lambda: Batches(lambda a, b: (a, b), 6), TypeError, r"make_iterator\(epoch\), got one"),
    "none": (lambda: Batches(Stateful, 0), ValueError, "steps_per_epoch >= 1, got steps_per_epo"),
    "whole": (lambda: Batches(Stateful, 2.0), TypeError, "an integer steps_per_epoch, got steps"),
    "ahead": (lambda: Batches(Stateful, 2, 0), ValueError, "prefetch >= 1, got prefetch=0"),
    "size": (
        lambda: run(Batches(Stateful, 6), batch_size=8), ValueError,
        r"fit needs the batch_size of its Batches \(4\) or none, got batch_size=8",
    ),
    "no size": (
        lambda: run(X), TypeError,
        "fit needs batch_size=, the examples a step, unless its data are Batches, got None",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused(name):
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()


def test_a_batch_size_that_is_that_of_the_batches_is_taken():
    np.testing.assert_array_equal(
        run(Batches(Stateful, STEPS), batch_size=4).params, run(Batches(Stateful, STEPS)).params
    )


def test_a_buffer_that_the_iterator_fills_anew_is_no_matter():
    def make_iterator(epoch):
        buffer = np.empty((4, 3), np.float32)
        for batch in batches_of(epoch):
            buffer[:] = batch
            yield buffer

    expected = run(Batches(batches_of, STEPS)).params
    np.testing.assert_array_equal(run(Batches(make_iterator, STEPS)).params, expected)
