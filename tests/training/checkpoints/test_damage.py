"""Whatever happens to the bytes of a checkpoint, no wrong number comes of it, and it is said."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxopt_tut.training import DamagedCheckpoint, restore, verify
from jaxopt_tut.training.checkpoints import folder, store
from jaxopt_tut.training.checkpoints.folder import Name
from jaxopt_tut.training.checkpoints.store import Contents

OLD, NEW = Name(1, 10), Name(2, 20)


def tree(seed):
    rng = np.random.default_rng(seed)
    return {
        "w": jnp.asarray(rng.normal(size=(40, 5)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=5), jnp.bfloat16),
        "count": jnp.int32(seed),
        "nothing": jnp.zeros((0, 3)),
    }


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    for name in (OLD, NEW):
        rest = {"losses": np.arange(name.step) / 7, "step": name.step}
        store.write(
            directory, name, Contents({"opt_state": tree(name.step)}, rest, {"key": [0, 1]})
        )
    return directory


def halve(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damages(directory):
    """List the damages as pairs of a name and a function of the folder."""
    rng = np.random.default_rng(0)
    new, found = directory / str(NEW), []

    def add(at, kind, change):
        found.append((f"{at}: {kind}", Path(at), change))

    for at in folder.files_of(new):
        size = (new / at).stat().st_size
        add(at, "emptied", lambda path: path.write_bytes(b""))
        add(at, "halved", halve)
        add(at, "deleted", lambda path: path.unlink())
        add(at, "longer", lambda path: path.write_bytes(path.read_bytes() + b"\0"))
        bits = {0, 8 * size - 1, *rng.integers(8 * size, size=14).tolist()}
        for bit in sorted(bits):
            flip = lambda path, bit=bit: path.write_bytes(flipped(path.read_bytes(), bit))
            add(at, f"bit {bit}", flip)
        other = directory / str(OLD) / at
        if other.exists() and other.read_bytes() != (new / at).read_bytes():
            add(at, "of another step", lambda path, other=other: shutil.copy(other, path))
    return found


def assert_state(found, seed):
    for (path, one), right in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(tree(seed)), strict=True
    ):
        assert one.dtype == right.dtype
        np.testing.assert_array_equal(one, right, err_msg=str(path))


def test_every_damage_is_named_and_no_wrong_number_is_returned(original, tmp_path):
    table = damages(original)
    assert len(table) >= 200
    for kind, at, change in table:
        directory = tmp_path / "copy"
        shutil.copytree(original, directory)
        change(directory / str(NEW) / at)
        assert_state(restore(directory, {"opt_state": tree(0)})["opt_state"], OLD.step)
        with pytest.raises(DamagedCheckpoint, match="is damaged") as raised:
            store.read(directory, NEW)
        named = " ".join(raised.value.damage)
        assert at.name in named, kind
        shutil.rmtree(directory)


def test_a_leaf_that_is_damaged_is_named(original, tmp_path, monkeypatch):
    # what the file system and orbax let pass: the digest of the leaf itself
    monkeypatch.setattr(
        store.arrays, "read_arrays",
        lambda *args, read=store.arrays.read_arrays: [2 * value for value in read(*args)],
    )  # fmt: skip
    shutil.copytree(original, tmp_path / "run")
    with pytest.raises(DamagedCheckpoint, match="opt_state/b: not the numbers that were written"):
        restore(tmp_path / "run", {"opt_state": tree(0)})
    report = verify(tmp_path / "run").checkpoints[0]
    assert report.leaves["opt_state/w"] == "not the numbers that were written"
    assert report.leaves["opt_state/nothing"] is None  # twice nothing


def test_folders_that_changed_places_are_named(original, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(original, directory)
    (directory / str(NEW)).rename(directory / "kept")
    (directory / str(OLD)).rename(directory / str(NEW))
    (directory / "kept").rename(directory / str(OLD))
    with pytest.raises(DamagedCheckpoint, match="save_000002_step_20: has the files of save_0000"):
        restore(directory, {"opt_state": tree(0)})


def test_the_newest_checkpoint_that_is_whole_is_restored(original, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(original, directory)
    assert_state(restore(directory, {"opt_state": tree(0)})["opt_state"], NEW.step)
    shutil.rmtree(directory / str(NEW) / "arrays")
    assert_state(restore(directory, {"opt_state": tree(0)})["opt_state"], OLD.step)
    report = verify(directory)
    assert [one.ok for one in report.checkpoints] == [False, True]
    assert not report.ok
    assert set(report.checkpoints[0].leaves.values()) == {"cannot be read", None} - {None}
    assert set(report.checkpoints[1].leaves.values()) == {None}
    assert "save_000002_step_20: damaged" in str(report)


def test_where_no_checkpoint_is_whole_an_error_names_each(original, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(original, directory)
    for name in (OLD, NEW):
        (directory / str(name) / "state.json").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"whole, got 2 in .*step_20.*step_10") as raised:
        restore(directory, {"opt_state": tree(0)})
    assert len(raised.value.damage) == 2
    assert not verify(directory).ok


DTYPES = [
    "bool", "int4", "int8", "uint32", "int32", "float16", "bfloat16", "float8_e4m3fn", "float32",
    "complex64",
]  # fmt: skip


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (4, 1, 2)], ids=str)
def test_arrays_of_every_dtype_and_shape_come_back(shape, tmp_path):
    rng = np.random.default_rng(3)
    trees = {}
    for dtype in DTYPES:
        numbers = jnp.asarray(rng.integers(0, 2, shape), dtype)
        trees[dtype] = {"jax": numbers, "numpy": np.asarray(numbers), "none": None}
    trees["float64"] = {"scalar": np.float64(0.1), "single": np.float32(0.1), "empty": {}}
    trees["bfloat16 scalar"] = ml_dtypes.bfloat16(1.5)
    trees["keys"] = jax.random.key(3), jax.random.split(jax.random.key(4, impl="rbg"), 3)
    store.write(tmp_path, OLD, Contents(trees, None, {}))
    found = restore(tmp_path, trees)
    assert jax.tree.structure(found) == jax.tree.structure(trees)
    for one, right in zip(jax.tree.leaves(found), jax.tree.leaves(trees), strict=True):
        assert one.dtype == right.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, right = jax.random.key_data(one), jax.random.key_data(right)
        assert isinstance(one, jax.Array) == isinstance(right, jax.Array)
        np.testing.assert_array_equal(one, right)


REST = {
    1: [None, True, -0.0, float("inf"), 1e-320, 2**70, "é\n", ()],
    "nested": {(1, "a"): ({"array": [1]}, [])},
    "array": np.arange(3),
}


def test_what_is_no_array_comes_back(tmp_path):
    store.write(tmp_path, OLD, Contents({"opt_state": jnp.ones(1)}, REST, {}))
    found = store.read(tmp_path, OLD).rest
    np.testing.assert_array_equal(found.pop("array"), REST["array"])
    assert repr(found) == repr({k: v for k, v in REST.items() if k != "array"})


def test_not_a_number_keeps_its_bits(tmp_path):
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000], np.uint32)
    store.write(
        tmp_path, OLD, Contents({"opt_state": jnp.asarray(bits.view(np.float32))}, None, {})
    )
    found = restore(tmp_path, {"opt_state": np.zeros(4, np.float32)})["opt_state"]
    np.testing.assert_array_equal(found.view(np.uint32), bits)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": np.zeros(3, np.float32)}, r"needs a checkpoint without the leaf 'opt_state/b'"),
        ({"w": np.zeros(3, np.float32), "b": np.zeros(2), "c": np.zeros(1)},
         r"with the leaf 'opt_state/c', got the checkpoint at step 10 without"),
        ({"w": np.zeros(4, np.float32), "b": np.zeros(2)},
         r"needs float32\[4\] at 'opt_state/w', got float32\[3\] in the checkpoint at step"),
        ({"w": np.zeros(3, np.float16), "b": np.zeros(2)},
         r"needs float16\[3\] at 'opt_state/w', got float32\[3\]"),
        ({"w": jax.random.key(0), "b": np.zeros(2)}, r"needs key<fry>\[\] at 'opt_state/w'"),
        ({"v": np.zeros(3, np.float32), "b": np.zeros(2)},
         r"the leaf 'opt_state/v', .* without; there is 'opt_state/w'"),
    ],
    ids=["superfluous", "missing", "shape", "dtype", "key", "name"],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_path(like, message, tmp_path):
    state = {"w": np.zeros(3, np.float32), "b": np.zeros(2)}
    store.write(tmp_path, OLD, Contents({"opt_state": state}, None, {}))
    with pytest.raises(ValueError, match=message):
        restore(tmp_path, {"opt_state": like})


def test_leaves_of_one_name_are_told_apart(tmp_path):
    tree = {"a/b": np.zeros(2), "a": {"b": np.ones(3)}}
    store.write(tmp_path, OLD, Contents({"params": tree}, None, {}))
    leaves = verify(tmp_path).checkpoints[0].leaves
    assert list(leaves) == ["['params']['a']['b']", "['params']['a/b']"]
    assert restore(tmp_path, {"params": tree})["params"]["a"]["b"].shape == (3,)


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FORMAT", 2)
    store.write(tmp_path, OLD, Contents({"opt_state": np.ones(1)}, None, {}))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="needs a checkpoint of format 1, got 2 in"):
        restore(tmp_path, {"opt_state": np.ones(1)})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda path: restore(path / "none", {}), ValueError, r"none': none there\."),
        (lambda path: restore(path, {}), ValueError, "restore needs a folder of checkpoints, got"),
        (lambda path: verify(path), ValueError, r"verify needs .* without one\."),
        (lambda _: restore(None, {}), TypeError, "^restore needs a path as directory, got dir"),
        (
            lambda _: verify(3),
            TypeError,
            r"^verify needs a path as directory, got directory=3\.",
        ),
        (lambda path: restore(path, jnp.ones(2)), TypeError, "dictionary of trees, such as"),
    ],
    ids=["no folder", "empty", "verify", "None", "verify a number", "no dictionary"],
)
def test_a_folder_without_checkpoints_is_named(call, error, message, tmp_path):
    with pytest.raises(error, match=message):
        call(tmp_path)


def test_the_best_are_the_last_ones_without_scores(tmp_path):
    store.write(tmp_path, OLD, Contents({"params": np.ones(2), "model_state": ()}, None, {}))
    found = restore(tmp_path, {"best": np.zeros(2), "best_model_state": ()})
    np.testing.assert_array_equal(found["best"], 1.0)
    assert found["best_model_state"] == ()


def test_digests_can_be_checked_by_the_tool_of_the_system(original):
    line = (original / str(NEW) / "state.json.sha256").read_text()
    digest, name = line.split()
    assert digest == folder.digest_file(original / str(NEW) / name)
