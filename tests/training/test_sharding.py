"""Parameters cut up over devices: which, how, and the same bits as whole ones."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxopt_tut import optimizers
from jaxopt_tut.training import by_path, fit, fsdp
from jaxopt_tut.training.sharding import lay_out

SCRIPT = Path(__file__).parent / "sharded_runs.py"


def devices(**axes):
    """Any number of devices, as far as rules are concerned."""
    one = np.array(jax.devices()[:1] * int(np.prod(list(axes.values()))))
    return Mesh(one.reshape(tuple(axes.values())), tuple(axes))


PARAMS = {
    "in": {"kernel": jnp.zeros((12, 8)), "bias": jnp.zeros(8)},
    "out": {"kernel": jnp.zeros((8, 12, 3)), "bias": jnp.zeros(3)},
    "none": None, "scale": jnp.zeros(()),
}  # fmt: skip


def specs(shard):
    places = lay_out(shard.mesh, shard, PARAMS, ())
    return [tuple(one.spec) for one in places.params]


def test_fsdp_cuts_the_largest_axis_that_divides():
    assert specs(fsdp(devices(data=4))) == [("data",), ("data",), (), (None, "data"), ()]
    # twelve is no multiple of eight
    assert specs(fsdp(devices(data=8))) == [("data",), (None, "data"), (), ("data",), ()]
    assert specs(fsdp(devices(data=2, model=3), axis="model"))[3] == (None, "model")


OPTIMIZERS = {
    "adam": (optimizers.adam(0.1), 2),
    "chain": (optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)), 2),
    "masked": (optax.masked(optax.adam(0.1), {"in": True, "out": True, "none": None,
                                              "scale": False}), 2),
    "momentum": (optax.sgd(0.1, momentum=0.9), 1),
    "sgd": (optax.sgd(0.1), 0),
    "memory": (optax.scale_by_lbfgs(5), None),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_lies_as_what_it_mirrors(name):
    optimizer, copies = OPTIMIZERS[name]
    state = jax.eval_shape(optimizer.init, PARAMS)
    places = lay_out(devices(data=4), fsdp(devices(data=4)), PARAMS, state)
    found = []
    for (path, leaf), place in zip(
        jax.tree_util.tree_leaves_with_path(state), places.opt_state, strict=True
    ):
        place.shard_shape(leaf.shape)  # raises where it does not divide
        if "kernel" in jax.tree_util.keystr(path):
            is_first = "'in'" in jax.tree_util.keystr(path)
            assert tuple(place.spec)[-1 if is_first else -2 :][:1] == (
                "data" if is_first else None,
            )
            found.append(place)
        if not leaf.ndim:
            assert place.is_fully_replicated
    if copies is not None:
        assert len(found) == 2 * copies
    else:  # two memories and the last parameters and updates
        assert len(found) == 2 * 4
        assert sum(len(one.spec) == 3 for one in found) == 2 + 0


@pytest.mark.parametrize("size", [2, 4])
def test_a_device_holds_its_part(size):
    """Of the network A2 under Adam, and 2 % at most."""
    widths = (784, 512, 256, 256, 128, 10)
    params = [{"kernel": jax.ShapeDtypeStruct(two, np.float32),
               "bias": jax.ShapeDtypeStruct(two[1:], np.float32)}
              for two in itertools.pairwise(widths)]  # fmt: skip
    state = jax.eval_shape(optimizers.adam(0.1).init, params)
    places = lay_out(devices(data=size), fsdp(devices(data=size)), params, state)
    shapes = [leaf.shape for leaf in jax.tree.leaves((params, state))]
    both = (*places.params, *places.opt_state)
    here = sum(int(np.prod(at.shard_shape(s))) for at, s in zip(both, shapes, strict=True))
    assert here <= (1 / size + 0.02) * sum(int(np.prod(s)) for s in shapes)


def test_the_first_rule_that_fits_counts():
    mesh = devices(data=2, model=4)
    rules = {"out/*": PartitionSpec(("data", "model")), "*kernel": PartitionSpec(None, "model")}
    with pytest.raises(ValueError, match="axis 0 of 'out/bias' with size 3 over 8 devices of "):
        specs(by_path(mesh, rules))
    rules = {"out/kernel": PartitionSpec(("data", "model")), "*": PartitionSpec()}
    assert specs(by_path(mesh, rules)) == [(), (), (), (("data", "model"),), ()]
    assert specs(by_path(mesh, {"*/kernel": PartitionSpec(None, "model")})) == [
        (), (None, "model"), (), (None, "model"), (),
    ]  # fmt: skip


def run(**options):
    return fit(
        lambda p, b: jnp.sum(p["w"]) * jnp.mean(b), {"w": jnp.zeros((3, 5))}, optax.sgd(0.1),
        jnp.ones(6), num_epochs=1, key=jax.random.key(0), progress=False,
        **{"batch_size": 6, **options},
    )  # fmt: skip


SIX = devices(data=6)
REFUSED = {
    "no mesh": (lambda: fsdp(3), TypeError, "fsdp needs a mesh of jax.make_mesh, got int"),
    "no mesh for rules": (lambda: by_path(None, {}), TypeError, "by_path needs a mesh of jax.mak"),
    "axis": (lambda: fsdp(SIX, axis="model"), ValueError, r"an axis of its mesh \('data',\), got "),
    "no spec": (lambda: by_path(SIX, {"w": "data"}), TypeError, "a PartitionSpec for 'w', got str"),
    "axis of a rule": (
        lambda: by_path(SIX, {"w": PartitionSpec(("data", "x"))}), ValueError,
        r"by_path needs an axis of its mesh \('data',\), got 'x'",
    ),
    "nothing to cut": (
        lambda: run(shard=fsdp(SIX)), ValueError,
        r"fit needs a parameter with an axis that the 6 devices of 'data' divide for fsdp, got "
        r"\{'w': \(3, 5\)\}",
    ),
    "no leaf": (
        lambda: run(shard=by_path(SIX, {"v*": PartitionSpec("data")})), ValueError,
        r"by_path rules for its parameters, got 'v\*', which fits none of \['w'\]",
    ),
    "more axes": (
        lambda: run(shard=by_path(SIX, {"w": PartitionSpec(None, None, "data")})), ValueError,
        r"of as many axes as the leaf, got .* for 'w' of shape \(3, 5\)",
    ),
    "size": (
        lambda: run(shard=by_path(SIX, {"w": PartitionSpec(None, "data")})), ValueError,
        "fit needs by_path rules that divide, got axis 1 of 'w' with size 5 over 6 devices of "
        "'data'",
    ),
    "batch": (
        lambda: run(shard=fsdp(SIX), batch_size=4), ValueError,
        r"a batch_size divisible by the mesh's first axis \(6\), got batch_size=4",
    ),
    "no shard": (lambda: run(shard=SIX), TypeError, r"fsdp\(mesh\) or by_path\(mesh, ...\) as sha"),
    "two meshes": (
        lambda: run(shard=fsdp(SIX), mesh=devices(data=2)), ValueError,
        r"fit needs one mesh, got \{'data': 2\} as mesh and \{'data': 6\} in shard",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_divide_is_refused(name):
    make, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        make()


def results(folder, num_devices, names):
    """Run some in a process of so many devices; return arrays and reports by name."""
    code = [sys.executable, str(SCRIPT), str(folder), str(num_devices), ",".join(names)]
    subprocess.run(code, check=True, capture_output=True)
    return {
        name: (dict(np.load(folder / f"{name}-0.npz")),
               json.loads((folder / f"{name}-0.json").read_text()))
        for name in names
    }  # fmt: skip


SAME = ["fsdp", "fsdp loop", "streamed", "streamed fsdp", "by path", "evaluated"]


@pytest.mark.slow
def test_two_devices_have_the_bits_of_replicas_and_the_losses_of_one(tmp_path):
    """Forty Adam steps of the network A2."""
    (tmp_path / "alone").mkdir()
    alone, _ = results(tmp_path / "alone", 1, ["alone"])["alone"]
    found = results(tmp_path, 2, ["replicated", *SAME, "tensor"])
    whole, _ = found["replicated"]
    assert whole["losses"].shape == (40,)
    for name in SAME:
        arrays, report = found[name]
        for key, values in whole.items():
            if key != "validation":
                np.testing.assert_array_equal(arrays[key], values, err_msg=f"{name} {key}")
        is_cut = name not in ("streamed", "by path")
        assert report["kept"] <= (0.52 if is_cut else 1)
        assert report["specs"] == (["('data',)"] if is_cut else ["()"])
    assert found["evaluated"][0]["validation"].shape == (2,)
    for name in ("replicated", "tensor"):
        losses = found[name][0]["losses"][:10]
        np.testing.assert_allclose(losses, alone["losses"][:10], rtol=1e-6, atol=1e-6)
    assert found["tensor"][1]["kept"] <= 0.52
