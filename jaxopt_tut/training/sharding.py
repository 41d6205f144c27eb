"""How parameters, and the optimizer's state with them, are cut up over devices."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from typing_extensions import TypeAliasType

from jaxopt_tut.devices import Devices
from jaxopt_tut.trees import matching_names, named_leaves
from jaxopt_tut.types import LossFn, Params, PyTree

Rule = TypeAliasType("Rule", Callable[[Params], list[PartitionSpec]])
"""Says for each leaf over which axes of the mesh its own are cut."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """Where parameters lie, made by `fsdp` or `by_path`.

    Attributes:
      mesh: The devices; each batch is split along its first axis.
      specs: The rule.
      gathers: Whether parameters are whole on each device while the loss is computed; else the
        compiler distributes its products as they lie.
    """

    mesh: Devices
    specs: Rule
    gathers: bool


Cut = TypeAliasType("Cut", Shard)
"""How parameters are cut up, of `fsdp` or `by_path`."""


def fsdp(mesh: Devices, *, axis: str | None = None) -> Shard:
    r"""Cut every parameter and what the optimizer keeps of it into equal parts, one a device.

    Each leaf is cut along its largest axis that the $D$ devices divide; one without such an axis
    is whole on each. While the loss is computed a parameter is gathered; the gradient is summed
    over the devices as without cuts, of which each updates its part: over two devices the same
    bits for optimizers that work coordinate by coordinate, and rounding for others. A device holds
    $1/D$ of parameters and state, and for the time of a step one gradient. The model has to fit on
    one device once, at the start.

    Args:
      mesh: Of `jax.make_mesh`. Batches are split along its first axis.
      axis: The axis of the mesh over which parameters are cut; by default the first.

    Returns:
      What `fit(..., shard=)` takes.

    Raises:
      TypeError: If `mesh` is none.
      ValueError: If it has no such axis. `fit` raises it if no parameter can be cut.

    Example:
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> params = {"kernel": jax.numpy.zeros((3, 8)), "scale": jax.numpy.ones(())}
      >>> [tuple(spec) for spec in fsdp(mesh).specs(params)]
      [(None, 'data'), ()]

    References:
      Rajbhandari et al. (2020), ZeRO, stage 3 but for the gradient, https://arxiv.org/abs/1910.02054
    """
    axis = _axis("fsdp", mesh, axis)
    size = mesh.shape[axis]

    def specs(params: Params) -> list[PartitionSpec]:
        found = [_largest(leaf.shape, size, axis) for leaf in jax.tree.leaves(params)]
        if not any(len(spec) for spec in found):
            shapes = {name: leaf.shape for name, leaf in named_leaves(params)}
            raise ValueError(
                f"fit needs a parameter with an axis that the {size} devices of {axis!r} divide "
                f"for fsdp, got {shapes}."
            )
        return found

    return Shard(mesh, specs, gathers=True)


def by_path(mesh: Devices, rules: Mapping[str, PartitionSpec]) -> Shard:
    r"""Cut parameters, and what the optimizer keeps of them, as a rule for their names says.

    The compiler distributes the products of the loss as the parameters lie: columns of a kernel
    over an axis `"model"` are the columns of its output (tensor parallelism).

    Args:
      mesh: Of `jax.make_mesh`. Batches are split along its first axis.
      rules: By patterns of the names of leaves (`"*/kernel"`, as in `initializers.reinitialize`),
        of which the first that fits counts: the axes of the mesh for each axis of the leaf. A leaf
        without a rule is whole on each device.

    Returns:
      What `fit(..., shard=)` takes.

    Raises:
      TypeError: If `mesh` is none, or a rule is no `PartitionSpec`.
      ValueError: If a rule names an axis the mesh has not. `fit` raises it if a pattern fits no
        leaf, or a rule has more axes than a leaf or does not divide one.

    Example:
      >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
      >>> shard = by_path(mesh, {"*kernel": PartitionSpec(None, "model")})
      >>> params = {"bias": jax.numpy.zeros(8), "kernel": jax.numpy.zeros((3, 8))}
      >>> [tuple(spec) for spec in shard.specs(params)]
      [(), (None, 'model')]
    """
    _axis("by_path", mesh, None)
    for pattern, spec in rules.items():
        if not isinstance(spec, PartitionSpec):
            raise TypeError(
                f"by_path needs a PartitionSpec for {pattern!r}, got {type(spec).__name__}."
            )
        for axis in (one for entry in spec for one in _axes(entry)):
            _axis("by_path", mesh, axis)

    def specs(params: Params) -> list[PartitionSpec]:
        leaves = named_leaves(params)
        fits = {pattern: matching_names(pattern, [name for name, _ in leaves]) for pattern in rules}
        for pattern, names in fits.items():
            if not names:
                raise ValueError(
                    f"fit needs by_path rules for its parameters, got {pattern!r}, which fits none "
                    f"of {[name for name, _ in leaves]}."
                )
        return [
            next(
                (_checked(mesh, name, leaf.shape, spec) for at, spec in rules.items()
                 if name in fits[at]),
                PartitionSpec(),
            )
            for name, leaf in leaves
        ]  # fmt: skip

    return Shard(mesh, specs, gathers=False)


def _axis(caller: str, mesh: Any, axis: str | None) -> str:
    if not isinstance(mesh, Mesh):
        raise TypeError(f"{caller} needs a mesh of jax.make_mesh, got {type(mesh).__name__}.")
    name = str(mesh.axis_names[0]) if axis is None else axis
    if name not in mesh.axis_names:
        raise ValueError(f"{caller} needs an axis of its mesh {mesh.axis_names}, got {name!r}.")
    return name


def _axes(entry: Any) -> tuple[str, ...]:
    """Return the axes of the mesh over which one axis is cut."""
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def _largest(shape: tuple[int, ...], size: int, axis: str) -> PartitionSpec:
    can = [at for at, length in enumerate(shape) if length and not length % size]
    if not can:
        return PartitionSpec()
    at = max(can, key=lambda at: shape[at])
    return PartitionSpec(*[None] * at, axis)


def _checked(mesh: Mesh, name: str, shape: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec:
    """Refuse a rule that does not divide a leaf."""
    if len(spec) > len(shape):
        raise ValueError(
            f"fit needs by_path rules of as many axes as the leaf, got {spec} for {name!r} of "
            f"shape {shape}."
        )
    for at, entry in enumerate(spec):
        size = math.prod(mesh.shape[one] for one in _axes(entry))
        if shape[at] % size:
            raise ValueError(
                f"fit needs by_path rules that divide, got axis {at} of {name!r} with size "
                f"{shape[at]} over {size} devices of {entry!r}."
            )
    return spec


def mesh_of(mesh: Devices | None, shard: Shard | None) -> Devices | None:
    """Return the devices of a run."""
    if shard is None:
        return mesh
    if not isinstance(shard, Shard):
        raise TypeError(f"fit needs fsdp(mesh) or by_path(mesh, ...) as shard, got {shard!r}.")
    if mesh is not None and mesh != shard.mesh:
        raise ValueError(
            f"fit needs one mesh, got {dict(mesh.shape)} as mesh and {dict(shard.mesh.shape)} in "
            "shard: leave out the first."
        )
    return shard.mesh


class Places(NamedTuple):
    """Where a step finds and leaves everything; compared by its program."""

    batch: NamedSharding
    params: tuple[NamedSharding, ...] | None = None
    """By leaves; None if all is replicated."""
    opt_state: tuple[NamedSharding, ...] = ()
    gathers: bool = False

    @property
    def replicated(self) -> NamedSharding:
        """On every device."""
        return NamedSharding(self.batch.mesh, PartitionSpec())

    def shardings(self, carry: Any) -> Any:
        """Return the place of each leaf of a carry."""
        everywhere = jax.tree.map(lambda _: self.replicated, carry)
        if self.params is None:
            return everywhere
        return everywhere._replace(
            params=jax.tree.unflatten(jax.tree.structure(carry.params), self.params),
            opt_state=jax.tree.unflatten(jax.tree.structure(carry.opt_state), self.opt_state),
        )

    def kept(self, carry: Any) -> Any:
        """Leave a carry where it was."""
        if self.params is None:
            return carry
        constrain = jax.lax.with_sharding_constraint
        return jax.tree.map(constrain, carry, self.shardings(carry))


def at_use(places: Places | None, loss_fn: LossFn) -> LossFn:
    """Gather the parameters before a loss, whose gradient is then a whole one, too."""
    if places is None or not places.gathers:
        return loss_fn
    gather = lambda leaf: jax.lax.with_sharding_constraint(leaf, places.replicated)
    return lambda params, *rest: loss_fn(jax.tree.map(gather, params), *rest)


def lay_out(mesh: Mesh, shard: Shard | None, params: Params, opt_state: PyTree) -> Places:
    """Lay out parameters by the rule, and the optimizer's state as what it mirrors."""
    batch = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
    if shard is None:
        return Places(batch)
    specs = shard.specs(params)
    pairs = zip(named_leaves(params), specs, strict=True)
    known = [(name, leaf.shape, spec) for (name, leaf), spec in pairs]
    mirrored = [_mirrored(name, leaf.shape, known) for name, leaf in named_leaves(opt_state)]
    at = lambda specs: tuple(NamedSharding(mesh, spec) for spec in specs)
    return Places(batch, at(specs), at(mirrored), shard.gathers)


def _mirrored(
    name: str, shape: tuple[int, ...], known: list[tuple[str, tuple[int, ...], PartitionSpec]]
) -> PartitionSpec:
    """Find the parameter whose path ends a leaf's, and whose shape does: a memory has more axes."""
    best, found = -1, PartitionSpec()
    for path, like, spec in known:
        ends = path == "(root)" or name == path or name.endswith(f"/{path}")
        more = len(shape) - len(like)
        if ends and more >= 0 and shape[more:] == like and len(path) > best:
            best, found = len(path), PartitionSpec(*[None] * more, *spec)
    return found
