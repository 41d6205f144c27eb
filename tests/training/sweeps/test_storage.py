"""Chunks on disk: found again, never taken for others, run again where they are damaged."""

import json
import re
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from jaxopt_tut.training import Map, Vmap, sweep
from jaxopt_tut.training.sweeps import storage

KEYS = jax.random.split(jax.random.key(0), 2)
RATES = {"rate": jnp.linspace(0.1, 1.0, 5)}


def run(h, key):
    half = jnp.bfloat16(h["rate"])
    return {"loss": h["rate"] * jax.random.normal(key), "half": half, "key": key}


def swept(directory, **options):
    options = {"run": run, "hyperparameters": RATES, "keys": KEYS, "chunk": 3, **options}
    return sweep(options.pop("run"), options.pop("hyperparameters"), directory=directory,
                 **{"strategy": Vmap(), **options})  # fmt: skip


def words(result):
    results = {**result.results, "key": jax.random.key_data(result.results["key"])}
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(results)]


def test_chunks_are_found_again_with_the_same_bits(tmp_path):
    first = swept(tmp_path / "s")
    again = swept(str(tmp_path / "s"))
    assert (first.num_restored, again.num_restored) == (0, 4)
    assert words(first) == words(again) == words(swept(None))
    files = sorted(file.name for file in (tmp_path / "s").iterdir())
    assert files == [*(f"chunk-{at:06d}.npz" for at in range(4)), "sweep.json"]


def test_what_is_left_out_is_what_was_chosen_before(tmp_path):
    first = swept(tmp_path, strategy=Map(lanes=3))
    again = swept(tmp_path, strategy=None, chunk=None)
    assert (again.strategy, again.chunk, again.num_restored) == (Map(lanes=3), 3, 4)
    assert words(first) == words(again)


def damages():
    yield "cut to nothing", lambda *_: b""
    yield "cut to half", lambda data, _: data[: len(data) // 2]
    yield "of another chunk", lambda _, other: other
    yield "text", lambda data, _: b"x" * len(data)
    for place in range(1, 20):
        yield f"flipped at {place}/20", lambda data, _, place=place: flipped(data, place)


def flipped(data, place):
    at = len(data) * place // 20
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def test_no_damaged_chunk_gives_a_wrong_number(tmp_path):
    whole = swept(tmp_path / "whole")
    for name, damage in damages():
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        place, other = (tmp_path / "copy" / f"chunk-00000{at}.npz" for at in (1, 2))
        place.write_bytes(damage(place.read_bytes(), other.read_bytes()))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            again = swept(tmp_path / "copy")
        assert words(again) == words(whole), name
        if again.num_restored == 3:
            assert re.search(r"chunk-000001\.npz damaged in .* is run again", str(said[0].message))
        else:  # in a place of the archive that nobody reads
            assert again.num_restored == 4
            assert "flipped" in name
        assert swept(tmp_path / "copy").num_restored == 4
        shutil.rmtree(tmp_path / "copy")


def test_a_chunk_that_is_gone_is_run_again_and_leftovers_are_no_harm(tmp_path):
    whole = swept(tmp_path)
    (tmp_path / "chunk-000002.npz").unlink()
    (tmp_path / "chunk-000002.npz.17.tmp").write_bytes(b"half")
    again = swept(tmp_path)
    assert again.num_restored == 3
    assert words(again) == words(whole)


@pytest.mark.parametrize(("options", "found"), [
    ({"run": lambda h, key: {**run(h, key), "loss": 2 * h["rate"]}}, "run is another"),
    ({"hyperparameters": {"rate": jnp.linspace(0.1, 2.0, 5)}}, "hyperparameters are others"),
    ({"hyperparameters": {"rate": jnp.linspace(0.1, 1.0, 6)}}, "hyperparameters are others"),
    ({"keys": jax.random.split(jax.random.key(1), 2)}, "keys are others"),
    ({"chunk": 4}, "chunk is 3 for 4"),
    ({"strategy": Map()}, r"strategy is Vmap\(\) for Map\(lanes=1\)"),
])  # fmt: skip
def test_the_directory_of_another_sweep_is_refused_and_left_alone(tmp_path, options, found):
    swept(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(
        ValueError, match=rf"sweep found the chunks of another sweep in .*{found}\."
    ):
        swept(tmp_path, **options)
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_closed_over_numbers_make_another_sweep(tmp_path):
    table = jnp.arange(6.0)
    make = lambda table: lambda h, _: jnp.sum(table) * h["rate"]
    swept(tmp_path, run=make(table))
    assert swept(tmp_path, run=make(table + 0)).num_restored == 4
    with pytest.raises(ValueError, match="another sweep"):
        swept(tmp_path, run=make(table + 1))


def test_a_directory_with_other_things_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"needs an empty directory or that of a sweep, .*'notes"):
        swept(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("damage", [
    lambda _: "", lambda text: text[:40], lambda text: text.replace('"chunk": 3', '"chunk": 5'),
    lambda _: "[]", lambda _: json.dumps({"sha256": 1}),
])  # fmt: skip
def test_a_damaged_head_is_named(tmp_path, damage):
    swept(tmp_path)
    head = tmp_path / storage.HEAD
    head.write_text(damage(head.read_text()))
    with pytest.raises(ValueError, match=r"sweep found sweep\.json damaged in .*begin anew\."):
        swept(tmp_path)


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"sweep needs a directory that it can write to, got .*file"):
        swept(tmp_path / "file")


def test_a_full_disk_is_a_warning(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match=r"could not keep chunk 0 in .*No space left") as said:
        result = swept(tmp_path)
    assert len(said) == 1
    assert words(result) == words(swept(None))
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.json"]


@pytest.mark.parametrize("call", [
    lambda f, x: jax.pure_callback(f, x, x, vmap_method="sequential"),
    lambda f, x: io_callback(f, x, x),
    lambda f, x: jax.lax.fori_loop(0, 2, lambda _, y: jax.jit(
        lambda z: jax.pure_callback(f, z, z, vmap_method="sequential"))(y), x),
])  # fmt: skip
def test_a_run_that_calls_python_is_not_kept(tmp_path, call):
    twice = lambda h, _: call(lambda x: np.float32(2) * np.asarray(x), h["rate"])
    with pytest.raises(ValueError, match=r"sweep needs a run without callbacks .*_callback"):
        swept(tmp_path / "s", run=twice)
    assert not (tmp_path / "s").exists()


def test_a_run_that_only_prints_is_kept(tmp_path):
    def prints(h, _):
        jax.debug.callback(lambda _: None, h["rate"])
        return h["rate"]

    assert swept(tmp_path, run=prints).num_restored == 0
    assert swept(tmp_path, run=prints).num_restored == 4


@pytest.mark.parametrize("directory", [3, 1.5, b"bytes", ["s"]])
def test_a_directory_is_a_path(directory):
    with pytest.raises(TypeError, match="sweep needs a path as directory, got"):
        swept(directory)
